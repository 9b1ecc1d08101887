//! Everything of libvirt's C interface that the `virt` crate does not wrap: the event loop's thread,
//! domain and close callbacks, and streams that do not block.
//!
//! ```text
//!  thread "libvirt-events": virEventRunDefaultImpl, for ever
//!     ├─ lifecycle, close callbacks ──▶ Listener (an Arc<dyn Fn>)
//!     └─ GuestPump: virStream ◀──▶ socket pair ◀──▶ the caller's tokio stream
//!  thread "libvirt-closer": ends streams, which waits for the daemon's answer
//! ```
//!
//! This is the one file with `unsafe`.
#![expect(unsafe_code, reason = "the one file that calls libvirt's C interface")]

use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::raw::{c_int, c_void};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use tracing::{error, warn};
use uuid::Uuid;
use virt::connect::Connect;
use virt::domain::Domain;
use virt::error::Error;
use virt::sys;

use crate::model::DomainEnd;

/// Streams that wait to be ended; more than desktops on a host.
const CLOSING_MAX: usize = 4096;
/// `VIR_UUID_BUFLEN`.
const UUID_BYTES: usize = 16;
/// Bytes moved at a time.
const CHUNK_BYTES: usize = 8192;
/// Chunks moved before other events get their turn.
const CHUNKS_PER_EVENT_MAX: usize = 16;
/// `virStreamRecv` and `virStreamSend` of a stream that does not block: nothing now.
const WOULD_BLOCK: c_int = -2;

/// What happened on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// A domain's life cycle went on.
    Lifecycle(Uuid, Life),
    /// The connection is dead.
    Closed,
}

/// Where a domain's life cycle went (virDomainEventType and its details).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// It was started, or goes on after its guest's reboot.
    Began,
    /// It is ending, or has ended, like this.
    Ends(DomainEnd),
    /// It has ended after it shut down; who wanted that was said before by those that can tell.
    ShutDown,
    /// Anything else.
    Other,
}

/// Hears signals, on the event loop's thread: it must not block.
pub(super) type Listener = Arc<dyn Fn(Signal) + Send + Sync>;

/// Starts the event loop once for this process. Must come before any connection is opened.
pub(super) fn start_event_loop() -> Result<(), String> {
    static STARTED: OnceLock<Result<(), String>> = OnceLock::new();
    STARTED
        .get_or_init(|| {
            // Errors are returned; libvirt would print them to standard error as well.
            virt::error::clear_error_callback();
            virt::event::event_register_default_impl().map_err(|error| error.to_string())?;
            std::thread::Builder::new()
                .name("libvirt-events".to_owned())
                .spawn(run_event_loop)
                .map(drop)
                .map_err(|error| error.to_string())
        })
        .clone()
}

fn run_event_loop() {
    loop {
        if let Err(error) = virt::event::event_run_default_impl() {
            error!(%error, "libvirt's event loop stumbled");
        }
    }
}

/// Callbacks of one connection; dropping it ends them.
#[derive(Debug)]
pub(super) struct Subscription {
    connect: Connect,
    lifecycle: c_int,
}

impl Subscription {
    /// Lets `listener` hear what happens on `connect`.
    pub(super) fn new(connect: &Connect, listener: &Listener) -> Result<Self, Error> {
        // SAFETY: libvirt calls the function with the arguments of a life-cycle event, for which
        // this is the documented signature; `Option<fn>` of any signature has one representation.
        let callback: sys::virConnectDomainEventGenericCallback = unsafe {
            std::mem::transmute::<
                sys::virConnectDomainEventCallback,
                sys::virConnectDomainEventGenericCallback,
            >(Some(on_lifecycle))
        };
        let event = c_int::try_from(sys::VIR_DOMAIN_EVENT_ID_LIFECYCLE).unwrap_or_default();
        let opaque = into_opaque(listener);
        // SAFETY: the connection is alive; `opaque` is freed by `free_listener` exactly once, by
        // libvirt when it was registered and below when it was not.
        let lifecycle = unsafe {
            sys::virConnectDomainEventRegisterAny(
                connect.as_ptr(),
                std::ptr::null_mut(),
                event,
                callback,
                opaque,
                Some(free_listener),
            )
        };
        if lifecycle < 0 {
            let error = Error::last_error();
            // SAFETY: libvirt did not take it.
            unsafe { free_listener(opaque) };
            return Err(error);
        }
        let subscription = Self { connect: connect.clone(), lifecycle };
        let opaque = into_opaque(listener);
        // SAFETY: as above.
        let registered = unsafe {
            sys::virConnectRegisterCloseCallback(
                connect.as_ptr(),
                Some(on_close),
                opaque,
                Some(free_listener),
            )
        };
        if registered < 0 {
            let error = Error::last_error();
            // SAFETY: libvirt did not take it.
            unsafe { free_listener(opaque) };
            return Err(error);
        }
        Ok(subscription)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        // SAFETY: the connection is kept alive by `self.connect`. Both calls fail harmlessly on a
        // dead connection, where libvirt frees what is left with the connection itself.
        unsafe {
            sys::virConnectDomainEventDeregisterAny(self.connect.as_ptr(), self.lifecycle);
            sys::virConnectUnregisterCloseCallback(self.connect.as_ptr(), Some(on_close));
        }
        // `Connect` has no `Drop`; this gives back the reference that `new` took.
        drop(self.connect.close());
    }
}

fn into_opaque(listener: &Listener) -> *mut c_void {
    Box::into_raw(Box::new(Arc::clone(listener))).cast()
}

/// Calls the listener behind `opaque`; a panic must not cross into C.
///
/// # Safety
/// `opaque` comes from [`into_opaque`] and was not freed.
unsafe fn tell(opaque: *mut c_void, signal: Signal) {
    // SAFETY: by the contract of this function; libvirt calls no callback after its free function.
    let listener = unsafe { &*opaque.cast::<Listener>() };
    let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| listener(signal)));
    if told.is_err() {
        error!("A listener for libvirt's events panicked");
    }
}

unsafe extern "C" fn on_lifecycle(
    _connect: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    event: c_int,
    detail: c_int,
    opaque: *mut c_void,
) -> c_int {
    let mut bytes = [0_u8; UUID_BYTES];
    // SAFETY: libvirt's domain is alive for the call, which only copies VIR_UUID_BUFLEN bytes.
    let told = unsafe { sys::virDomainGetUUID(domain, bytes.as_mut_ptr()) };
    let id = if told < 0 { Uuid::nil() } else { Uuid::from_bytes(bytes) };
    // SAFETY: registered with an opaque of `into_opaque`.
    unsafe { tell(opaque, Signal::Lifecycle(id, life(event, detail))) };
    0
}

fn life(event: c_int, detail: c_int) -> Life {
    let number = |number: c_int| u32::try_from(number).unwrap_or(u32::MAX);
    let (event, detail) = (number(event), number(detail));
    match (event, detail) {
        (sys::VIR_DOMAIN_EVENT_STARTED | sys::VIR_DOMAIN_EVENT_RESUMED, _) => Life::Began,
        (sys::VIR_DOMAIN_EVENT_SHUTDOWN, sys::VIR_DOMAIN_EVENT_SHUTDOWN_GUEST) => {
            Life::Ends(DomainEnd::ByGuest)
        }
        (sys::VIR_DOMAIN_EVENT_STOPPED, sys::VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN) => Life::ShutDown,
        (sys::VIR_DOMAIN_EVENT_SHUTDOWN, sys::VIR_DOMAIN_EVENT_SHUTDOWN_HOST)
        | (sys::VIR_DOMAIN_EVENT_STOPPED | sys::VIR_DOMAIN_EVENT_CRASHED, _) => {
            Life::Ends(DomainEnd::Otherwise)
        }
        _ => Life::Other,
    }
}

unsafe extern "C" fn on_close(_connect: sys::virConnectPtr, _reason: c_int, opaque: *mut c_void) {
    // SAFETY: registered with an opaque of `into_opaque`.
    unsafe { tell(opaque, Signal::Closed) };
}

unsafe extern "C" fn free_listener(opaque: *mut c_void) {
    // SAFETY: libvirt calls this once for each registration, with what `into_opaque` made.
    drop(unsafe { Box::from_raw(opaque.cast::<Listener>()) });
}

/// A stream of libvirt that does not block; freed when it is dropped.
#[derive(Debug)]
struct RawStream(sys::virStreamPtr);

// SAFETY: libvirt's stream calls take the stream's own lock and may come from any thread.
unsafe impl Send for RawStream {}

impl Drop for RawStream {
    fn drop(&mut self) {
        // SAFETY: made by virStreamNew, aborted and freed only here. Aborting a dead or unused
        // stream fails harmlessly.
        unsafe {
            sys::virStreamAbort(self.0);
            sys::virStreamFree(self.0);
        }
    }
}

/// Moves bytes between a guest's port and a socket, on the event loop's thread, until one ends.
#[derive(Debug)]
pub(super) struct GuestPump(Mutex<Option<Flow>>);

#[derive(Debug)]
struct Flow {
    stream: RawStream,
    socket: UnixStream,
    /// The socket's handle in the event loop.
    watch: c_int,
    /// Bytes that the stream did not take; while there are any, the socket is not read.
    to_guest: Vec<u8>,
}

/// What becomes of a flow after one event.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Continue,
    End,
}

/// Opens a port of a domain and pumps between it and `socket` (nonblocking). The pump lives as long
/// as both ends do; the returned handle only ends it early.
pub(super) fn pump_guest_port(
    connect: &Connect,
    domain: &Domain,
    port: &std::ffi::CStr,
    socket: UnixStream,
) -> Result<Weak<GuestPump>, Error> {
    // SAFETY: the connection is alive; the result is checked.
    let stream = unsafe { sys::virStreamNew(connect.as_ptr(), sys::VIR_STREAM_NONBLOCK) };
    if stream.is_null() {
        return Err(Error::last_error());
    }
    let stream = RawStream(stream);
    // SAFETY: domain, name and stream are alive for the call. The flag takes the port over.
    let opened = unsafe {
        sys::virDomainOpenChannel(
            domain.as_ptr(),
            port.as_ptr(),
            stream.0,
            sys::VIR_DOMAIN_CHANNEL_FORCE,
        )
    };
    if opened < 0 {
        return Err(Error::last_error());
    }
    let pump = Arc::new(GuestPump(Mutex::new(None)));
    // Held until the flow is in place, so that the first event waits for it.
    let mut flow = pump.lock();
    let readable = flag(sys::VIR_EVENT_HANDLE_READABLE);
    // SAFETY: the opaque is a reference of its own, given back by `free_pump` once: by libvirt when
    // the handle was added, here when it was not. The socket stays open until the handle is removed.
    let watch = unsafe {
        let opaque = Arc::into_raw(Arc::clone(&pump)).cast_mut().cast();
        let watch = sys::virEventAddHandle(
            socket.as_raw_fd(),
            readable,
            Some(on_socket),
            opaque,
            Some(free_pump),
        );
        if watch < 0 {
            free_pump(opaque);
            return Err(Error::last_error());
        }
        watch
    };
    // SAFETY: as for the handle.
    let added = unsafe {
        let opaque = Arc::into_raw(Arc::clone(&pump)).cast_mut().cast();
        let added = sys::virStreamEventAddCallback(
            stream.0,
            flag(sys::VIR_STREAM_EVENT_READABLE),
            Some(on_stream),
            opaque,
            Some(free_pump),
        );
        if added < 0 {
            free_pump(opaque);
        }
        added
    };
    if added < 0 {
        let error = Error::last_error();
        // SAFETY: `watch` was added above and is removed once; no flow refers to it.
        unsafe { sys::virEventRemoveHandle(watch) };
        return Err(error);
    }
    *flow = Some(Flow { stream, socket, watch, to_guest: Vec::new() });
    drop(flow);
    Ok(Arc::downgrade(&pump))
}

impl GuestPump {
    fn lock(&self) -> MutexGuard<'_, Option<Flow>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the pump: the caller's socket closes, the guest's port is given back.
    pub(super) fn end(&self) {
        // Taken out first: libvirt is called without the lock that its callbacks take.
        let Some(flow) = self.lock().take() else { return };
        let Flow { stream, socket, watch, .. } = flow;
        // SAFETY: both were added when the flow was made and are removed once, here.
        unsafe {
            sys::virStreamEventRemoveCallback(stream.0);
            sys::virEventRemoveHandle(watch);
        }
        drop(socket);
        close_later(stream);
    }

    fn step(&self, act: impl FnOnce(&mut Flow) -> Next) {
        let next = match self.lock().as_mut() {
            Some(flow) => act(flow),
            None => Next::Continue,
        };
        if next == Next::End {
            self.end();
        }
    }
}

impl Flow {
    /// The guest said something: passed on at once, for libvirt keeps it in memory otherwise.
    fn guest_to_host(&mut self) -> Next {
        let mut chunk = [0; CHUNK_BYTES];
        for _ in 0..CHUNKS_PER_EVENT_MAX {
            // SAFETY: the buffer has the given length.
            let count = unsafe {
                sys::virStreamRecv(self.stream.0, chunk.as_mut_ptr().cast(), CHUNK_BYTES)
            };
            if count == WOULD_BLOCK {
                return Next::Continue;
            }
            let Some(bytes) = usize::try_from(count).ok().and_then(|count| chunk.get(..count))
            else {
                return Next::End;
            };
            if bytes.is_empty() {
                return Next::End;
            }
            // A guest that floods a port which nobody drains loses it; the caller opens it again.
            if let Err(error) = self.socket.write_all(bytes) {
                if error.kind() == io::ErrorKind::WouldBlock {
                    warn!("A guest floods its port; the port is closed");
                }
                return Next::End;
            }
        }
        Next::Continue
    }

    fn host_to_guest(&mut self) -> Next {
        let mut chunk = [0; CHUNK_BYTES];
        match self.socket.read(&mut chunk) {
            Ok(0) => return Next::End,
            Ok(count) => self.to_guest.extend_from_slice(chunk.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return Next::End,
        }
        self.flush()
    }

    fn flush(&mut self) -> Next {
        while !self.to_guest.is_empty() {
            // SAFETY: pointer and length are of one buffer.
            let sent = unsafe {
                sys::virStreamSend(
                    self.stream.0,
                    self.to_guest.as_ptr().cast(),
                    self.to_guest.len(),
                )
            };
            match usize::try_from(sent) {
                Ok(sent) => drop(self.to_guest.drain(..sent.min(self.to_guest.len()))),
                Err(_) if sent == WOULD_BLOCK => break,
                Err(_) => return Next::End,
            }
        }
        let (stream_events, socket_events) = if self.to_guest.is_empty() {
            (flag(sys::VIR_STREAM_EVENT_READABLE), flag(sys::VIR_EVENT_HANDLE_READABLE))
        } else {
            (flag(sys::VIR_STREAM_EVENT_READABLE) | flag(sys::VIR_STREAM_EVENT_WRITABLE), 0)
        };
        // SAFETY: stream and handle are alive while the flow is.
        unsafe {
            sys::virStreamEventUpdateCallback(self.stream.0, stream_events);
            sys::virEventUpdateHandle(self.watch, socket_events);
        }
        Next::Continue
    }
}

fn flag(value: u32) -> c_int {
    c_int::try_from(value).unwrap_or_default()
}

/// Runs `act` on the pump behind `opaque`; a panic must not cross into C.
///
/// # Safety
/// `opaque` comes from `Arc::into_raw` of a pump and its reference was not given back.
unsafe fn with_pump(opaque: *mut c_void, act: impl FnOnce(&GuestPump)) {
    // SAFETY: by the contract of this function; libvirt calls no callback after its free function.
    let pump = unsafe { &*opaque.cast::<GuestPump>() };
    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| act(pump)));
    if done.is_err() {
        error!("A guest port's pump panicked");
    }
}

unsafe extern "C" fn on_stream(_stream: sys::virStreamPtr, events: c_int, opaque: *mut c_void) {
    let act = |flow: &mut Flow| {
        if events & flag(sys::VIR_STREAM_EVENT_WRITABLE) != 0 && flow.flush() == Next::End {
            return Next::End;
        }
        // Also on errors and hang-ups: reading says so, after what was still to be read.
        flow.guest_to_host()
    };
    // SAFETY: registered with a pump's reference.
    unsafe { with_pump(opaque, |pump| pump.step(act)) };
}

unsafe extern "C" fn on_socket(_watch: c_int, _fd: c_int, _events: c_int, opaque: *mut c_void) {
    // SAFETY: registered with a pump's reference.
    unsafe { with_pump(opaque, |pump| pump.step(Flow::host_to_guest)) };
}

unsafe extern "C" fn free_pump(opaque: *mut c_void) {
    // SAFETY: libvirt calls this once for each registration, with what `Arc::into_raw` gave.
    drop(unsafe { Arc::from_raw(opaque.cast_const().cast::<GuestPump>()) });
}

/// Ends a stream where waiting for the daemon's answer holds nobody up.
fn close_later(stream: RawStream) {
    static CLOSER: OnceLock<Option<SyncSender<RawStream>>> = OnceLock::new();
    let closer = CLOSER.get_or_init(|| {
        let (sender, receiver) = sync_channel::<RawStream>(CLOSING_MAX);
        std::thread::Builder::new()
            .name("libvirt-closer".to_owned())
            .spawn(move || receiver.into_iter().for_each(drop))
            .inspect_err(|error| error!(%error, "The thread that ends streams cannot start"))
            .ok()
            .map(|_thread| sender)
    });
    if let Some(closer) = closer {
        // A full queue gives the stream back, and it ends here.
        drop(closer.try_send(stream));
    }
}
