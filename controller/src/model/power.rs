//! The power machine of a desktop; its table is in docs/desktop-life.md.

/// Where a desktop's VM is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Power {
    /// Waits for a host, or its host makes its volumes.
    #[default]
    Preparing,
    /// There is a volume and no VM.
    Off,
    /// A start was asked for or is going on.
    Starting,
    /// The VM runs; whether it is ready is another question.
    Running,
    /// Its memory lies in a file.
    Saved,
    /// It did not work; the reason is a sentence for people.
    Failed(String),
}

/// What may happen to a desktop's power.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PowerEvent {
    /// Somebody wants it on.
    Start,
    /// Somebody wants it off.
    Stop,
    /// Its host says where it is, for the newest wish.
    Observed(Power),
}

impl Power {
    /// The only way from one state to the next. A wish never claims what only the host can know.
    pub fn next(&self, event: &PowerEvent) -> Self {
        match (self, event) {
            (_, PowerEvent::Observed(observed)) => observed.clone(),
            (Self::Off | Self::Saved | Self::Failed(_), PowerEvent::Start) => Self::Starting,
            (Self::Preparing | Self::Starting | Self::Running, PowerEvent::Start)
            | (
                Self::Preparing
                | Self::Off
                | Self::Starting
                | Self::Running
                | Self::Saved
                | Self::Failed(_),
                PowerEvent::Stop,
            ) => self.clone(),
        }
    }

    /// The word for it, as in the table.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Preparing => "preparing",
            Self::Off => "off",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Saved => "saved",
            Self::Failed(_) => "failed",
        }
    }
}
