//! An agent and several controllers over real TLS: it finds the one that leads, and the next one.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use support::controller::{Controller, HOST};
use support::{Authority, until};
use tokio::sync::watch;
use vidi_agent::model::observed::HostState;
use vidi_agent::model::wanted::WantedSet;
use vidi_agent::rpc::controller_link::{ControllerLink, Hello, LinkParts, own_names};
use vidi_kit::Tasks;
use vidi_kit::tls::{Identity, Role};

/// A controller, and what must not end before it.
struct One {
    controller: Controller,
    _tasks: Tasks,
    address: String,
    _folder: tempfile::TempDir,
}

impl One {
    async fn start(authority: &Arc<Authority>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (controller, _tasks) = (Controller::new(Arc::clone(authority)), Tasks::new());
        let any = ([127, 0, 0, 1], 0).into();
        let address = controller.serve(&_tasks, any, &folder.path().join("c.sock")).await;
        Self { controller, _tasks, address: address.to_string(), _folder: folder }
    }

    fn stand_by(&self, leader: &str) {
        self.controller.leader.send_replace(Some(leader.to_owned()));
    }

    fn lead(&self) {
        self.controller.leader.send_replace(None);
    }

    async fn linked(&self) {
        until(|| self.controller.hello.borrow().clone()).await;
    }
}

/// An agent's link, and what must not end before it.
struct Agent {
    tasks: Tasks,
    link: ControllerLink,
    _identity: watch::Sender<Arc<Identity>>,
    _state: watch::Sender<HostState>,
}

impl Agent {
    fn start(authority: &Authority, controllers: &[&One]) -> Self {
        let tasks = Tasks::new();
        let (_identity, identity) = watch::channel(Arc::new(authority.identity(Role::Agent, HOST)));
        let (_state, state) = watch::channel(HostState::default());
        let parts = LinkParts {
            addresses: controllers.iter().map(|one| one.address.clone()).collect(),
            own: own_names(&identity).unwrap(),
            identity,
            hello: Hello {
                hostname: "here".to_owned(),
                relay_port: 7444,
                relay_advertise: String::new(),
            },
            state,
            first_wanted: WantedSet::default(),
        };
        let link = ControllerLink::start(&tasks, parts);
        Self { tasks, link, _identity, _state }
    }
}

#[tokio::test]
async fn a_told_leader_is_linked_also_where_it_is_not_configured() {
    let authority = Arc::new(Authority::new());
    let (first, second) = (One::start(&authority).await, One::start(&authority).await);
    first.stand_by(&second.address);
    let agent = Agent::start(&authority, &[&first]);
    second.linked().await;
    assert!(first.controller.hello.borrow().is_none());
    agent.tasks.stop().await;
}

#[tokio::test]
async fn another_that_leads_is_found_when_the_leader_is_deposed() {
    let authority = Arc::new(Authority::new());
    let (first, second) = (One::start(&authority).await, One::start(&authority).await);
    second.stand_by(&first.address);
    let agent = Agent::start(&authority, &[&first, &second]);
    first.linked().await;
    // For a while one knows nobody, and the other tells of who led before.
    first.stand_by("");
    until(|| agent.link.channel().is_none().then_some(())).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(second.controller.hello.borrow().is_none());
    second.lead();
    second.linked().await;
    agent.tasks.stop().await;
}
