//! A fleet as a large installation has it: racks, hosts of three sizes, templates of four, desktops that run.

use vidi_bench::mix;
use vidi_controller::model::fleet::Load;
use vidi_controller::model::{
    DesktopSpec, DisplayPolicy, Guest, Host, HostLive, HostReport, ImageFile, Key, Manifest, Power,
    Readiness, ReleasePolicy, Row, Step, TemplateVersion, Video, World,
};
use vidi_controller::plan::placement::charged_mib;
use vidi_controller::plan::scheduler::{Wanted, place};
use vidi_controller::plan::settle::settle;
use vidi_kit::ids::{DesktopId, PoolId, TemplateId, TenantId};

const HOSTS_PER_RACK: usize = 25;
const NOW_MS: i64 = 1_000_000;
const DIGEST: &str = "sha256:00";

/// What a fleet is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    templates: u64,
    /// MiB.
    host_sizes: &'static [u64],
    /// MiB.
    guest_sizes: &'static [u32],
    /// Before anything is measured.
    desktops_per_host: usize,
    /// Every template's desktops are of a pool.
    pooled: bool,
}

/// As in the module's first words, about seven tenths full.
pub(crate) const MIXED: Shape = Shape {
    templates: 64,
    host_sizes: &[128 << 10, 256 << 10, 384 << 10],
    guest_sizes: &[2 << 10, 4 << 10, 6 << 10, 8 << 10],
    desktops_per_host: 40,
    pooled: true,
};

/// Hosts of one size without anything on them, for desktops of one kind: for what is compared with others.
pub(crate) const PLAIN: Shape = Shape {
    templates: 1,
    host_sizes: &[512 << 10],
    guest_sizes: &[4 << 10],
    desktops_per_host: 0,
    pooled: false,
};

/// See the module.
pub(crate) struct Simulated {
    pub(crate) world: World,
    shape: Shape,
    tenant: TenantId,
    templates: Vec<(TemplateId, Option<PoolId>, u32)>,
    running: Vec<DesktopId>,
    /// Desktops without a host, and the numbers of their templates.
    pub(crate) waiting: Vec<(DesktopId, usize)>,
    seed: u64,
}

impl Simulated {
    pub(crate) fn new(hosts: usize, seed: u64, shape: Shape) -> Self {
        let tenant: TenantId = parse("default");
        let mut one = Self {
            world: World::default(),
            shape,
            tenant,
            templates: Vec::new(),
            running: Vec::new(),
            waiting: Vec::new(),
            seed,
        };
        for number in 0..shape.templates {
            let memory_mib = pick(shape.guest_sizes, number);
            let template: TemplateId = parse(&format!("template-{number}"));
            let version = TemplateVersion { manifest: manifest(memory_mib), create_ms: 0 };
            let digest = DIGEST.to_owned();
            one.world.put(Row::Version(one.tenant.clone(), template.clone(), digest, version));
            let pool = shape.pooled.then(|| parse(&format!("pool-{number}")));
            one.templates.push((template, pool, memory_mib));
        }
        for number in 0..hosts {
            let host = parse(&format!("host-{number}"));
            let failure_domain = format!("rack-{}", number / HOSTS_PER_RACK);
            one.world.put(Row::Host(host, Host { failure_domain, ..Host::default() }));
        }
        for number in 0..hosts {
            let memory_total_mib = pick(shape.host_sizes, one.random());
            let report = HostReport {
                memory_total_mib,
                memory_available_mib: memory_total_mib * 9 / 10,
                acceleration: "kvm".to_owned(),
                ..HostReport::default()
            };
            let live = HostLive { link: 1, report: Some(report), ..HostLive::default() };
            one.world.set_host_live(parse(&format!("host-{number}")), live);
        }
        one
    }

    fn random(&mut self) -> u64 {
        self.seed = mix(self.seed);
        self.seed
    }

    /// Places what there is before anything is measured, and has it run.
    pub(crate) fn fill(&mut self) {
        let mut left = self.world.hosts.len() * self.shape.desktops_per_host;
        while 0 < left {
            let turn = left.min(1_000);
            self.wish(turn);
            for (id, _) in self.waiting.clone() {
                self.place(id);
            }
            self.settle_down(0);
            left -= turn;
        }
    }

    /// So many more desktops wait for a host, each of a template at random.
    pub(crate) fn wish(&mut self, count: usize) {
        for _ in 0..count {
            let number = usize::try_from(self.random() % self.shape.templates).unwrap_or(0);
            let Some((template, pool, _)) = self.templates.get(number).cloned() else { continue };
            let id = DesktopId::generate();
            let spec = DesktopSpec {
                display_name: "Desk".to_owned(),
                template,
                template_digest: DIGEST.to_owned(),
                assigned_user: None,
                power_on: true,
                force_off: false,
                deleting: false,
                generation: 1,
                create_ms: NOW_MS,
                app_id: parse("desk"),
                restarting: false,
                release_policy: ReleasePolicy::Delete,
                display_policy: DisplayPolicy::default(),
                trace: None,
                pool,
                restored: false,
            };
            self.world.put(Row::Spec(self.tenant.clone(), id, spec));
            self.waiting.push((id, number));
        }
    }

    /// A decision: the host for a desktop of this template, which is charged with it. Answers whether there
    /// is one.
    pub(crate) fn decide(&self, world: &mut World, number: usize) -> bool {
        let Some((template, pool, memory_mib)) = self.templates.get(number) else { return false };
        let (tenant, pool, charge_mib) = (&self.tenant, *pool, charged_mib(*memory_mib));
        let wanted = Wanted { tenant, template, pool, charge_mib, starts: true };
        let Ok(host) = place(world, &wanted) else { return false };
        world.suppose(Load { host: &host, tenant, template, pool, starting: true }, charge_mib);
        true
    }

    /// What a round of the controller does for a desktop that has no host: the plan's steps, applied.
    pub(crate) fn place(&mut self, id: DesktopId) {
        for step in settle(&self.world, &self.tenant, id, NOW_MS) {
            self.world.apply(step);
        }
    }

    /// What was placed runs, and as many others are gone.
    pub(crate) fn settle_down(&mut self, leaving: usize) {
        for (id, _) in std::mem::take(&mut self.waiting) {
            let Some(desktop) = self.world.desktop(&self.tenant, id) else { continue };
            let mut status = desktop.status.clone();
            if status.host.is_none() {
                self.world.delete(&Key::Spec(self.tenant.clone(), id));
                continue;
            }
            status.power = Power::Running;
            self.world.put(Row::Status(self.tenant.clone(), id, status));
            self.running.push(id);
        }
        for _ in 0..leaving.min(self.running.len()) {
            let at = usize::try_from(self.random()).unwrap_or(0) % self.running.len().max(1);
            let id = self.running.swap_remove(at);
            let desktop = self.world.desktop(&self.tenant, id).cloned();
            if let Some(host) = desktop.and_then(|desktop| desktop.status.host.clone()) {
                self.world.apply(Step::Delete(Key::Allocation(host, id)));
            }
            self.world.apply(Step::Delete(Key::Spec(self.tenant.clone(), id)));
        }
    }
}

fn pick<T: Copy + Default>(from: &[T], random: u64) -> T {
    let at = usize::try_from(random >> 8 ^ random).unwrap_or(0) % from.len().max(1);
    from.get(at).copied().unwrap_or_default()
}

fn manifest(memory_mib: u32) -> Manifest {
    let disk = ImageFile { file: "disk".to_owned(), sha256: "0".repeat(64), size_bytes: 1 };
    let (video, readiness) = (Video::Qxl, Readiness::Helper);
    let guest = Guest { memory_mib, vcpus: 2, video, readiness, sound: true };
    Manifest { disk, kernel: None, initrd: None, cmdline: String::new(), guest }
}

/// An id that is spelled here.
fn parse<T: std::str::FromStr>(text: &str) -> T
where
    T::Err: std::fmt::Debug,
{
    #[expect(clippy::expect_used, reason = "all of them are spelled in this file")]
    text.parse().expect("an id as ids are")
}
