//! Writes a domain's XML and reads the metadata in it (libvirt.org/formatdomain.html).
//!
//! Every foreign string goes through quick-xml, which escapes it; none is formatted into markup.

use std::io;
use std::path::Path;

use quick_xml::Writer;
use quick_xml::events::{BytesText, Event};
use uuid::Uuid;

use crate::model::{
    Acceleration, DOMAIN_NAME_PREFIX, DesktopMark, DirectBoot, DomainSpec, GUEST_PORT_NAME,
    ProbeGuest, Video,
};

/// Namespace of the metadata.
pub(super) const METADATA_URI: &str = "https://vidi.dev/xmlns/domain/1";
/// Name of the QEMU guest agent's port.
const AGENT_PORT_NAME: &str = "org.qemu.guest_agent.0";
/// QEMU's cache of translated code is a quarter of the guest's memory otherwise, or 1 GiB; a desktop
/// does well with this (measured: about 195 MiB less per guest).
const TCG_CACHE_MIB: &str = "64";
/// The kernel takes no longer command line on x86 (COMMAND_LINE_SIZE).
const CMDLINE_BYTES_MAX: usize = 2047;
/// Shown by tools; longer ones are cut.
const TITLE_CHARS_MAX: usize = 80;

type Xml = Writer<Vec<u8>>;

/// How QEMU opens the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DiskCache {
    /// O_DIRECT: the guest's cache is the only one.
    None,
    /// The file system refuses O_DIRECT.
    Writeback,
}

/// The domain of a desktop; the error says what cannot be written.
pub(super) fn desktop(
    spec: &DomainSpec,
    mark: &DesktopMark,
    cache: DiskCache,
) -> Result<String, String> {
    let disk = path_text(&spec.disk)?.to_owned();
    let name = format!("{DOMAIN_NAME_PREFIX}{}", spec.id);
    let boot = Boot::of(spec.boot.as_ref())?;
    document(spec.acceleration, |xml| {
        text(xml, "name", &name)?;
        text(xml, "uuid", &spec.id.to_string())?;
        let title = shown(&spec.title);
        if !title.is_empty() {
            text(xml, "title", &title)?;
        }
        xml.create_element("metadata").write_inner_content(|xml| metadata(xml, mark))?;
        machine(xml, spec.acceleration, spec.memory_mib, spec.vcpus, &boot)?;
        xml.create_element("devices").write_inner_content(|xml| {
            disk_device(xml, &disk, cache)?;
            leaf(xml, "controller", &[("type", "usb"), ("model", "qemu-xhci")])?;
            leaf(xml, "input", &[("type", "tablet"), ("bus", "usb")])?;
            keyboard(xml)?;
            spice(xml)?;
            video(xml, spec.video)?;
            if spec.sound {
                sound(xml)?;
            }
            spice_channel(xml)?;
            unix_channel(xml, AGENT_PORT_NAME)?;
            unix_channel(xml, GUEST_PORT_NAME)?;
            small_devices(xml)
        })?;
        Ok(())
    })
}

/// The domain of a probe: no disk, no screen to connect to, not named as a desktop.
pub(super) fn probe(id: Uuid, guest: &ProbeGuest) -> Result<String, String> {
    let boot = Boot::of(Some(&guest.boot))?;
    document(Acceleration::Kvm, |xml| {
        text(xml, "name", &format!("probe-{id}"))?;
        text(xml, "uuid", &id.to_string())?;
        machine(xml, Acceleration::Kvm, guest.memory_mib, 1, &boot)?;
        xml.create_element("devices").write_inner_content(|xml| {
            video(xml, Video::Vga)?;
            unix_channel(xml, GUEST_PORT_NAME)?;
            small_devices(xml)
        })?;
        Ok(())
    })
}

/// Reads the metadata element; `None` when it is not one of ours.
pub(super) fn read_mark(element: &str) -> Option<DesktopMark> {
    let mut reader = quick_xml::Reader::from_str(element);
    let attributes = loop {
        match reader.read_event().ok()? {
            Event::Start(start) | Event::Empty(start) => break start.into_owned(),
            Event::Decl(_) | Event::Comment(_) | Event::Text(_) => {}
            _ => return None,
        }
    };
    if attributes.local_name().as_ref() != "desktop" {
        return None;
    }
    let value = |key: &str| -> Option<String> {
        let attribute = attributes.try_get_attribute(key).ok()??;
        Some(attribute.value.into_owned())
    };
    Some(DesktopMark {
        id: value("id")?.parse().ok()?,
        installation: value("installation")?.parse().ok()?,
        host: value("host")?.parse().ok()?,
        generation: value("generation")?.parse().ok()?,
        start_count: value("start-count")?.parse().ok()?,
        acceleration: value("acceleration")?.parse().ok()?,
    })
}

fn document(
    acceleration: Acceleration,
    content: impl FnOnce(&mut Xml) -> io::Result<()>,
) -> Result<String, String> {
    let kind = match acceleration {
        Acceleration::Kvm => "kvm",
        Acceleration::Tcg => "qemu",
    };
    let mut xml = Writer::new_with_indent(Vec::new(), b' ', 2);
    xml.create_element("domain")
        .with_attribute(("type", kind))
        .write_inner_content(content)
        .map_err(|error| error.to_string())?;
    String::from_utf8(xml.into_inner()).map_err(|error| error.to_string())
}

fn metadata(xml: &mut Xml, mark: &DesktopMark) -> io::Result<()> {
    xml.create_element("vidi:desktop")
        .with_attribute(("xmlns:vidi", METADATA_URI))
        .with_attribute(("id", mark.id.to_string().as_str()))
        .with_attribute(("installation", mark.installation.to_string().as_str()))
        .with_attribute(("host", mark.host.as_str()))
        .with_attribute(("generation", mark.generation.to_string().as_str()))
        .with_attribute(("start-count", mark.start_count.to_string().as_str()))
        .with_attribute(("acceleration", mark.acceleration.as_str()))
        .write_empty()?;
    Ok(())
}

/// Direct boot, checked: what is in here can be written.
struct Boot<'a>(Option<(&'a str, Option<&'a str>, &'a str)>);

impl<'a> Boot<'a> {
    fn of(boot: Option<&'a DirectBoot>) -> Result<Self, String> {
        let Some(boot) = boot else { return Ok(Self(None)) };
        if CMDLINE_BYTES_MAX < boot.cmdline.len() || boot.cmdline.chars().any(char::is_control) {
            return Err(format!(
                "the kernel's command line has at most {CMDLINE_BYTES_MAX} printable characters"
            ));
        }
        let initrd = boot.initrd.as_deref().map(path_text).transpose()?;
        Ok(Self(Some((path_text(&boot.kernel)?, initrd, &boot.cmdline))))
    }
}

fn machine(
    xml: &mut Xml,
    acceleration: Acceleration,
    memory_mib: u32,
    vcpus: u32,
    boot: &Boot<'_>,
) -> io::Result<()> {
    xml.create_element("memory")
        .with_attribute(("unit", "MiB"))
        .write_text_content(BytesText::new(&memory_mib.to_string()))?;
    text(xml, "vcpu", &vcpus.to_string())?;
    xml.create_element("os").write_inner_content(|xml| {
        xml.create_element("type")
            .with_attributes([("arch", "x86_64"), ("machine", "q35")])
            .write_text_content(BytesText::new("hvm"))?;
        if let Some((kernel, initrd, cmdline)) = boot.0 {
            text(xml, "kernel", kernel)?;
            if let Some(initrd) = initrd {
                text(xml, "initrd", initrd)?;
            }
            text(xml, "cmdline", cmdline)?;
        } else {
            leaf(xml, "boot", &[("dev", "hd")])?;
        }
        Ok(())
    })?;
    xml.create_element("features").write_inner_content(|xml| {
        leaf(xml, "acpi", &[])?;
        leaf(xml, "apic", &[])?;
        if acceleration == Acceleration::Tcg {
            xml.create_element("tcg").write_inner_content(|xml| {
                xml.create_element("tb-cache")
                    .with_attribute(("unit", "MiB"))
                    .write_text_content(BytesText::new(TCG_CACHE_MIB))?;
                Ok(())
            })?;
        }
        Ok(())
    })?;
    let processor = match acceleration {
        Acceleration::Kvm => "host-passthrough",
        Acceleration::Tcg => "maximum",
    };
    leaf(xml, "cpu", &[("mode", processor), ("check", "none"), ("migratable", "on")])?;
    leaf(xml, "clock", &[("offset", "utc")])?;
    text(xml, "on_poweroff", "destroy")?;
    text(xml, "on_reboot", "restart")?;
    text(xml, "on_crash", "destroy")?;
    // A guest that sleeps is neither off nor there for its user.
    xml.create_element("pm").write_inner_content(|xml| {
        leaf(xml, "suspend-to-mem", &[("enabled", "no")])?;
        leaf(xml, "suspend-to-disk", &[("enabled", "no")])
    })?;
    Ok(())
}

fn disk_device(xml: &mut Xml, file: &str, cache: DiskCache) -> io::Result<()> {
    // Native asynchronous I/O needs O_DIRECT.
    let (cache, io) = match cache {
        DiskCache::None => ("none", "native"),
        DiskCache::Writeback => ("writeback", "threads"),
    };
    xml.create_element("disk")
        .with_attributes([("type", "file"), ("device", "disk")])
        .write_inner_content(|xml| {
            leaf(
                xml,
                "driver",
                &[
                    ("name", "qemu"),
                    ("type", "qcow2"),
                    ("cache", cache),
                    ("io", io),
                    ("discard", "unmap"),
                    ("detect_zeroes", "unmap"),
                ],
            )?;
            leaf(xml, "source", &[("file", file)])?;
            leaf(xml, "target", &[("dev", "vda"), ("bus", "virtio")])
        })?;
    Ok(())
}

/// No port, no ticket: sockets come from libvirt, one for each channel. Nothing is compressed here,
/// because the gateway encodes for the browser.
fn spice(xml: &mut Xml) -> io::Result<()> {
    xml.create_element("graphics").with_attribute(("type", "spice")).write_inner_content(
        |xml| {
            leaf(xml, "listen", &[("type", "none")])?;
            leaf(xml, "image", &[("compression", "off")])?;
            leaf(xml, "jpeg", &[("compression", "never")])?;
            leaf(xml, "zlib", &[("compression", "never")])?;
            leaf(xml, "playback", &[("compression", "on")])?;
            leaf(xml, "streaming", &[("mode", "off")])?;
            // "server": the pointer goes to the tablet, which queues what a hand does, and not through
            // the SPICE agent, which hears only the newest state: a busy guest would miss clicks.
            leaf(xml, "mouse", &[("mode", "server")])
        },
    )?;
    Ok(())
}

fn video(xml: &mut Xml, video: Video) -> io::Result<()> {
    // qxl's surfaces: 64 MiB each of memory bars, 16 MiB of frame buffer, 2560x1600 at most, or two
    // monitors of 1920x1080. It shows the parts of one surface on up to so many monitors.
    let attributes: &[(&str, &str)] = match video {
        Video::Qxl => &[
            ("type", "qxl"),
            ("ram", "65536"),
            ("vram", "65536"),
            ("vgamem", "16384"),
            ("heads", "4"),
            ("primary", "yes"),
        ],
        Video::Vga => &[("type", "vga"), ("vram", "16384"), ("heads", "1"), ("primary", "yes")],
        Video::Virtio => &[("type", "virtio"), ("heads", "1"), ("primary", "yes")],
    };
    xml.create_element("video").write_inner_content(|xml| leaf(xml, "model", attributes))?;
    Ok(())
}

/// A card that every system has a driver for, with a line out and a line in; what it plays and records
/// goes through SPICE.
fn sound(xml: &mut Xml) -> io::Result<()> {
    xml.create_element("sound").with_attribute(("model", "ich9")).write_inner_content(|xml| {
        leaf(xml, "codec", &[("type", "duplex")])?;
        leaf(xml, "audio", &[("id", "1")])
    })?;
    leaf(xml, "audio", &[("id", "1"), ("type", "spice")])
}

/// A USB keyboard gives the guest one key at each of its polls and loses what a busy guest leaves for
/// too long; this one holds more and gives all at once. A guest without its driver takes the PS/2
/// keyboard, which every machine has.
fn keyboard(xml: &mut Xml) -> io::Result<()> {
    leaf(xml, "input", &[("type", "keyboard"), ("bus", "virtio")])
}

fn spice_channel(xml: &mut Xml) -> io::Result<()> {
    xml.create_element("channel").with_attribute(("type", "spicevmc")).write_inner_content(
        |xml| leaf(xml, "target", &[("type", "virtio"), ("name", "com.redhat.spice.0")]),
    )?;
    Ok(())
}

/// A port whose socket libvirt places; it is opened through libvirt, never by its path.
fn unix_channel(xml: &mut Xml, name: &str) -> io::Result<()> {
    xml.create_element("channel").with_attribute(("type", "unix")).write_inner_content(|xml| {
        leaf(xml, "source", &[("mode", "bind")])?;
        leaf(xml, "target", &[("type", "virtio"), ("name", name)])
    })?;
    Ok(())
}

fn small_devices(xml: &mut Xml) -> io::Result<()> {
    // For `virsh console`; what nobody reads is dropped.
    leaf(xml, "serial", &[("type", "pty")])?;
    xml.create_element("memballoon")
        .with_attributes([("model", "virtio"), ("autodeflate", "on"), ("freePageReporting", "on")])
        .write_inner_content(|xml| leaf(xml, "stats", &[("period", "1")]))?;
    xml.create_element("rng").with_attribute(("model", "virtio")).write_inner_content(|xml| {
        xml.create_element("backend")
            .with_attribute(("model", "random"))
            .write_text_content(BytesText::new("/dev/urandom"))?;
        Ok(())
    })?;
    Ok(())
}

fn leaf(xml: &mut Xml, name: &str, attributes: &[(&str, &str)]) -> io::Result<()> {
    xml.create_element(name).with_attributes(attributes.iter().copied()).write_empty()?;
    Ok(())
}

fn text(xml: &mut Xml, name: &str, content: &str) -> io::Result<()> {
    xml.create_element(name).write_text_content(BytesText::new(content))?;
    Ok(())
}

fn shown(title: &str) -> String {
    title.chars().filter(|letter| !letter.is_control()).take(TITLE_CHARS_MAX).collect()
}

fn path_text(path: &Path) -> Result<&str, String> {
    path.to_str()
        .filter(|text| path.is_absolute() && !text.chars().any(char::is_control))
        .ok_or_else(|| {
            format!("{} is not an absolute path of printable characters", path.display())
        })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::too_many_lines, reason = "the golden documents are whole")]

    use std::path::PathBuf;

    use expect_test::{Expect, expect};

    use super::*;

    fn spec(video: Video, acceleration: Acceleration) -> DomainSpec {
        DomainSpec {
            id: "0192f0c1-2345-7000-8000-00000000002a".parse().unwrap(),
            generation: 3,
            start_count: 2,
            title: "Ana's <desktop> & \"more\"\u{7}".to_owned(),
            memory_mib: 256,
            vcpus: 1,
            video,
            sound: video != Video::Vga,
            disk: PathBuf::from("/var/lib/vidi/images/i/desktop-<&'\">.qcow2"),
            boot: None,
            acceleration,
        }
    }

    fn mark(spec: &DomainSpec) -> DesktopMark {
        DesktopMark {
            id: spec.id,
            installation: "0192f0c1-0000-7000-8000-000000000001".parse().unwrap(),
            host: "host-1".parse().unwrap(),
            generation: spec.generation,
            start_count: spec.start_count,
            acceleration: spec.acceleration,
        }
    }

    fn check(spec: &DomainSpec, cache: DiskCache, expected: &Expect) {
        expected.assert_eq(&desktop(spec, &mark(spec), cache).unwrap());
    }

    #[test]
    fn a_qxl_desktop_boots_its_kernel_under_tcg() {
        let mut spec = spec(Video::Qxl, Acceleration::Tcg);
        spec.boot = Some(DirectBoot {
            kernel: PathBuf::from("/images/vmlinuz"),
            initrd: Some(PathBuf::from("/images/initrd")),
            cmdline: "console=ttyS0 quiet title=\"<a&b>\"".to_owned(),
        });
        check(
            &spec,
            DiskCache::None,
            &expect![[r#"
            <domain type="qemu">
              <name>vidi-0192f0c1-2345-7000-8000-00000000002a</name>
              <uuid>0192f0c1-2345-7000-8000-00000000002a</uuid>
              <title>Ana&apos;s &lt;desktop&gt; &amp; &quot;more&quot;</title>
              <metadata>
                <vidi:desktop xmlns:vidi="https://vidi.dev/xmlns/domain/1" id="0192f0c1-2345-7000-8000-00000000002a" installation="0192f0c1-0000-7000-8000-000000000001" host="host-1" generation="3" start-count="2" acceleration="tcg"/>
              </metadata>
              <memory unit="MiB">256</memory>
              <vcpu>1</vcpu>
              <os>
                <type arch="x86_64" machine="q35">hvm</type>
                <kernel>/images/vmlinuz</kernel>
                <initrd>/images/initrd</initrd>
                <cmdline>console=ttyS0 quiet title=&quot;&lt;a&amp;b&gt;&quot;</cmdline>
              </os>
              <features>
                <acpi/>
                <apic/>
                <tcg>
                  <tb-cache unit="MiB">64</tb-cache>
                </tcg>
              </features>
              <cpu mode="maximum" check="none" migratable="on"/>
              <clock offset="utc"/>
              <on_poweroff>destroy</on_poweroff>
              <on_reboot>restart</on_reboot>
              <on_crash>destroy</on_crash>
              <pm>
                <suspend-to-mem enabled="no"/>
                <suspend-to-disk enabled="no"/>
              </pm>
              <devices>
                <disk type="file" device="disk">
                  <driver name="qemu" type="qcow2" cache="none" io="native" discard="unmap" detect_zeroes="unmap"/>
                  <source file="/var/lib/vidi/images/i/desktop-&lt;&amp;&apos;&quot;&gt;.qcow2"/>
                  <target dev="vda" bus="virtio"/>
                </disk>
                <controller type="usb" model="qemu-xhci"/>
                <input type="tablet" bus="usb"/>
                <input type="keyboard" bus="virtio"/>
                <graphics type="spice">
                  <listen type="none"/>
                  <image compression="off"/>
                  <jpeg compression="never"/>
                  <zlib compression="never"/>
                  <playback compression="on"/>
                  <streaming mode="off"/>
                  <mouse mode="server"/>
                </graphics>
                <video>
                  <model type="qxl" ram="65536" vram="65536" vgamem="16384" heads="4" primary="yes"/>
                </video>
                <sound model="ich9">
                  <codec type="duplex"/>
                  <audio id="1"/>
                </sound>
                <audio id="1" type="spice"/>
                <channel type="spicevmc">
                  <target type="virtio" name="com.redhat.spice.0"/>
                </channel>
                <channel type="unix">
                  <source mode="bind"/>
                  <target type="virtio" name="org.qemu.guest_agent.0"/>
                </channel>
                <channel type="unix">
                  <source mode="bind"/>
                  <target type="virtio" name="dev.vidi.guest.0"/>
                </channel>
                <serial type="pty"/>
                <memballoon model="virtio" autodeflate="on" freePageReporting="on">
                  <stats period="1"/>
                </memballoon>
                <rng model="virtio">
                  <backend model="random">/dev/urandom</backend>
                </rng>
              </devices>
            </domain>"#]],
        );
    }

    #[test]
    fn a_vga_desktop_boots_its_disk_with_kvm() {
        check(
            &spec(Video::Vga, Acceleration::Kvm),
            DiskCache::None,
            &expect![[r#"
            <domain type="kvm">
              <name>vidi-0192f0c1-2345-7000-8000-00000000002a</name>
              <uuid>0192f0c1-2345-7000-8000-00000000002a</uuid>
              <title>Ana&apos;s &lt;desktop&gt; &amp; &quot;more&quot;</title>
              <metadata>
                <vidi:desktop xmlns:vidi="https://vidi.dev/xmlns/domain/1" id="0192f0c1-2345-7000-8000-00000000002a" installation="0192f0c1-0000-7000-8000-000000000001" host="host-1" generation="3" start-count="2" acceleration="kvm"/>
              </metadata>
              <memory unit="MiB">256</memory>
              <vcpu>1</vcpu>
              <os>
                <type arch="x86_64" machine="q35">hvm</type>
                <boot dev="hd"/>
              </os>
              <features>
                <acpi/>
                <apic/>
              </features>
              <cpu mode="host-passthrough" check="none" migratable="on"/>
              <clock offset="utc"/>
              <on_poweroff>destroy</on_poweroff>
              <on_reboot>restart</on_reboot>
              <on_crash>destroy</on_crash>
              <pm>
                <suspend-to-mem enabled="no"/>
                <suspend-to-disk enabled="no"/>
              </pm>
              <devices>
                <disk type="file" device="disk">
                  <driver name="qemu" type="qcow2" cache="none" io="native" discard="unmap" detect_zeroes="unmap"/>
                  <source file="/var/lib/vidi/images/i/desktop-&lt;&amp;&apos;&quot;&gt;.qcow2"/>
                  <target dev="vda" bus="virtio"/>
                </disk>
                <controller type="usb" model="qemu-xhci"/>
                <input type="tablet" bus="usb"/>
                <input type="keyboard" bus="virtio"/>
                <graphics type="spice">
                  <listen type="none"/>
                  <image compression="off"/>
                  <jpeg compression="never"/>
                  <zlib compression="never"/>
                  <playback compression="on"/>
                  <streaming mode="off"/>
                  <mouse mode="server"/>
                </graphics>
                <video>
                  <model type="vga" vram="16384" heads="1" primary="yes"/>
                </video>
                <channel type="spicevmc">
                  <target type="virtio" name="com.redhat.spice.0"/>
                </channel>
                <channel type="unix">
                  <source mode="bind"/>
                  <target type="virtio" name="org.qemu.guest_agent.0"/>
                </channel>
                <channel type="unix">
                  <source mode="bind"/>
                  <target type="virtio" name="dev.vidi.guest.0"/>
                </channel>
                <serial type="pty"/>
                <memballoon model="virtio" autodeflate="on" freePageReporting="on">
                  <stats period="1"/>
                </memballoon>
                <rng model="virtio">
                  <backend model="random">/dev/urandom</backend>
                </rng>
              </devices>
            </domain>"#]],
        );
    }

    #[test]
    fn a_virtio_desktop_where_the_file_system_has_no_direct_io() {
        check(
            &spec(Video::Virtio, Acceleration::Tcg),
            DiskCache::Writeback,
            &expect![[r#"
            <domain type="qemu">
              <name>vidi-0192f0c1-2345-7000-8000-00000000002a</name>
              <uuid>0192f0c1-2345-7000-8000-00000000002a</uuid>
              <title>Ana&apos;s &lt;desktop&gt; &amp; &quot;more&quot;</title>
              <metadata>
                <vidi:desktop xmlns:vidi="https://vidi.dev/xmlns/domain/1" id="0192f0c1-2345-7000-8000-00000000002a" installation="0192f0c1-0000-7000-8000-000000000001" host="host-1" generation="3" start-count="2" acceleration="tcg"/>
              </metadata>
              <memory unit="MiB">256</memory>
              <vcpu>1</vcpu>
              <os>
                <type arch="x86_64" machine="q35">hvm</type>
                <boot dev="hd"/>
              </os>
              <features>
                <acpi/>
                <apic/>
                <tcg>
                  <tb-cache unit="MiB">64</tb-cache>
                </tcg>
              </features>
              <cpu mode="maximum" check="none" migratable="on"/>
              <clock offset="utc"/>
              <on_poweroff>destroy</on_poweroff>
              <on_reboot>restart</on_reboot>
              <on_crash>destroy</on_crash>
              <pm>
                <suspend-to-mem enabled="no"/>
                <suspend-to-disk enabled="no"/>
              </pm>
              <devices>
                <disk type="file" device="disk">
                  <driver name="qemu" type="qcow2" cache="writeback" io="threads" discard="unmap" detect_zeroes="unmap"/>
                  <source file="/var/lib/vidi/images/i/desktop-&lt;&amp;&apos;&quot;&gt;.qcow2"/>
                  <target dev="vda" bus="virtio"/>
                </disk>
                <controller type="usb" model="qemu-xhci"/>
                <input type="tablet" bus="usb"/>
                <input type="keyboard" bus="virtio"/>
                <graphics type="spice">
                  <listen type="none"/>
                  <image compression="off"/>
                  <jpeg compression="never"/>
                  <zlib compression="never"/>
                  <playback compression="on"/>
                  <streaming mode="off"/>
                  <mouse mode="server"/>
                </graphics>
                <video>
                  <model type="virtio" heads="1" primary="yes"/>
                </video>
                <sound model="ich9">
                  <codec type="duplex"/>
                  <audio id="1"/>
                </sound>
                <audio id="1" type="spice"/>
                <channel type="spicevmc">
                  <target type="virtio" name="com.redhat.spice.0"/>
                </channel>
                <channel type="unix">
                  <source mode="bind"/>
                  <target type="virtio" name="org.qemu.guest_agent.0"/>
                </channel>
                <channel type="unix">
                  <source mode="bind"/>
                  <target type="virtio" name="dev.vidi.guest.0"/>
                </channel>
                <serial type="pty"/>
                <memballoon model="virtio" autodeflate="on" freePageReporting="on">
                  <stats period="1"/>
                </memballoon>
                <rng model="virtio">
                  <backend model="random">/dev/urandom</backend>
                </rng>
              </devices>
            </domain>"#]],
        );
    }

    #[test]
    fn the_mark_that_is_written_is_the_mark_that_is_read() {
        let spec = spec(Video::Qxl, Acceleration::Tcg);
        let mut xml = Writer::new(Vec::new());
        metadata(&mut xml, &mark(&spec)).unwrap();
        let element = String::from_utf8(xml.into_inner()).unwrap();
        assert_eq!(read_mark(&element), Some(mark(&spec)));
        for other in ["", "<a/>", "<desktop id='x'/>", "<vidi:desktop", "text"] {
            assert_eq!(read_mark(other), None, "{other}");
        }
    }

    #[test]
    fn what_cannot_be_written_is_refused() {
        let mut relative = spec(Video::Qxl, Acceleration::Tcg);
        relative.disk = PathBuf::from("disk.qcow2");
        assert!(desktop(&relative, &mark(&relative), DiskCache::None).is_err());
        let mut long = spec(Video::Qxl, Acceleration::Tcg);
        let kernel = PathBuf::from("/k");
        long.boot = Some(DirectBoot { kernel, initrd: None, cmdline: "x".repeat(2048) });
        assert!(desktop(&long, &mark(&long), DiskCache::None).is_err());
    }
}
