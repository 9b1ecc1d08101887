//! Questions before something is lost.

use std::io::{IsTerminal, Write};

use crate::arguments::Yes;
use crate::failure::Failure;

/// Says what is lost and asks whether to go on. Nothing is asked with `--yes` and without a
/// terminal on both sides: a script has decided already.
pub(crate) fn confirm(yes: Yes, what_is_lost: &str) -> anyhow::Result<()> {
    let stdin = std::io::stdin();
    let mut stderr = std::io::stderr();
    if yes.yes || !stdin.is_terminal() || !stderr.is_terminal() {
        return Ok(());
    }
    writeln!(stderr, "{what_is_lost}")?;
    write!(stderr, "Go on? [y/N] ")?;
    stderr.flush()?;
    let mut answer = String::new();
    stdin.read_line(&mut answer)?;
    if is_yes(&answer) { Ok(()) } else { Err(Failure::Declined.into()) }
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clear_yes_is_one() {
        assert!(is_yes("y\n") && is_yes(" YES\n"));
        assert!(!is_yes("") && !is_yes("\n") && !is_yes("n\n") && !is_yes("yess\n"));
    }
}
