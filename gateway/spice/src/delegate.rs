//! What every channel over a [`crate::Channel`] passes on to it, written once.

/// `receive`, `next_event`, `poll_transmit` and `serial` of a channel whose messages its own `handle`
/// takes, with `None` for those that tell nothing.
macro_rules! delegate_to_channel {
    ($channel:ty, $event:ident) => {
        impl $channel {
            /// Takes bytes from the server, in any portions.
            pub fn receive(&mut self, bytes: &[u8]) -> Result<(), $crate::SpiceError> {
                self.channel.receive(bytes)
            }

            /// The next event; `None` when more bytes are needed.
            pub fn next_event(&mut self) -> Result<Option<$event>, $crate::SpiceError> {
                while let Some(event) = self.channel.next_event()? {
                    match event {
                        $crate::ChannelEvent::Common(common) => {
                            return Ok(Some($event::Common(common)));
                        }
                        $crate::ChannelEvent::Message(message) => {
                            if let Some(event) = self.handle(&message)? {
                                return Ok(Some(event));
                            }
                        }
                    }
                }
                Ok(None)
            }

            /// All bytes that are to be sent to the server now, if any.
            pub fn poll_transmit(&mut self) -> Option<bytes::Bytes> {
                self.channel.poll_transmit()
            }

            /// Serial of the last message, for [`crate::CommonEvent::WaitForChannels`].
            pub const fn serial(&self) -> u64 {
                self.channel.serial()
            }
        }
    };
}

pub(crate) use delegate_to_channel;
