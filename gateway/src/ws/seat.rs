//! A viewer's place at its session: who may have one, and for how long.

use std::time::Duration;

use tokio::sync::mpsc;
use vidi_display::protocol::BrowserHello;
use vidi_kit::ids::SessionId;

use crate::adapters::controller::Controller;
use crate::http::router::Edge;
use crate::model::{Admitted, CloseCode, Outlook};
use crate::reconcile::registry::{FromViewer, ToViewer, Viewer};

/// Whether a viewer's sign-in and session are still good is asked this often.
const RIGHTS_PERIOD: Duration = Duration::from_secs(20);
/// Messages of a browser that wait for its session: input comes in small steps.
const INCOMING_MAX: usize = 64;
/// Messages that wait for the socket; the engine's credit keeps them few.
const OUTGOING_MAX: usize = 1_024;

/// A viewer's ends: what it does, what it is to be sent, and the way to close it.
pub(crate) type Seat =
    (mpsc::Sender<FromViewer>, mpsc::Receiver<ToViewer>, mpsc::WeakSender<ToViewer>);

/// Hands an admitted viewer to its session.
pub(crate) async fn seat(edge: &Edge, found: Admitted, token: &str, hello: BrowserHello) -> Seat {
    let (incoming_sender, incoming) = mpsc::channel(INCOMING_MAX);
    let (outgoing, outgoing_receiver) = mpsc::channel(OUTGOING_MAX);
    let closer = outgoing.downgrade();
    let Admitted { session, visitor, trace, .. } = found;
    let token = token.to_owned();
    let viewer = Viewer { hello, token, visitor, trace, incoming, outgoing };
    edge.registry.add(&session, viewer).await;
    (incoming_sender, outgoing_receiver, closer)
}

/// Closes the viewer when its user signs out, the sign-in expires or the session is lost, and tells the
/// session what its desktop allows; never resolves, since the socket's end is the pump's. A controller that
/// is away proves nothing.
pub(crate) async fn watch_rights(
    edge: &Edge,
    token: &str,
    session: SessionId,
    closer: mpsc::WeakSender<ToViewer>,
) {
    loop {
        tokio::time::sleep(RIGHTS_PERIOD).await;
        let Refusal { code, text } = match authorize(&edge.controller, token, session).await {
            Ok(Admitted { session, terms, .. }) => {
                edge.registry.follow(&session, terms);
                continue;
            }
            Err(refusal) => refusal,
        };
        if code != CloseCode::TryAgain
            && let Some(closer) = closer.upgrade()
        {
            // The pump is there as long as this runs.
            drop(closer.send(ToViewer::Close(code, text)).await);
        }
    }
}

/// Why somebody is not let in.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) code: CloseCode,
    pub(crate) text: String,
}

/// Asks the controller who the caller is to this session.
pub(crate) async fn authorize(
    controller: &Controller,
    token: &str,
    session: SessionId,
) -> Result<Admitted, Refusal> {
    let found = controller.admit(token, &session.to_string()).await.map_err(|error| Refusal {
        code: match error.outlook() {
            Outlook::SignedOut => CloseCode::SignedOut,
            Outlook::Ended => CloseCode::NotYours,
            Outlook::TryAgain | Outlook::Waits => CloseCode::TryAgain,
        },
        text: error.to_string(),
    })?;
    if found.has_ended {
        return Err(Refusal { code: CloseCode::Ended, text: "this session has ended".to_owned() });
    }
    Ok(found)
}
