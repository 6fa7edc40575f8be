//! The live picture of the demo: who calls whom, how often, and how it ends. On a terminal it is redrawn in place;
//! elsewhere each step is one line on standard error.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::echo::burst::Tally;

const BAR: usize = 40;

/// The picture.
pub struct Picture {
    bar: Option<ProgressBar>,
    title: String,
}

impl Picture {
    /// A picture on a terminal; plain lines with `--check` or into a file.
    pub fn new(check: bool) -> Picture {
        let live = !check && std::io::stderr().is_terminal();
        let bar = live.then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(12));
            if let Ok(style) = ProgressStyle::with_template("{spinner:.cyan} {msg}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Picture { bar, title: String::new() }
    }

    /// Says what happens now.
    pub fn step(&mut self, text: &str) {
        text.clone_into(&mut self.title);
        match &self.bar {
            Some(bar) => bar.set_message(text.to_owned()),
            None => eprintln!("· {text}"),
        }
    }

    /// Draws the traffic of a burst.
    pub fn traffic(&self, who: &str, tally: &Tally) {
        if let Some(bar) = &self.bar {
            bar.set_message(draw(&self.title, who, tally));
        }
    }

    /// Says how a claim came out; the line stays.
    pub fn verdict(&self, ok: bool, text: &str) {
        let mark = if ok { "\u{2714}" } else { "\u{2718}" };
        match &self.bar {
            Some(bar) => bar.println(format!("  {mark} {text}")),
            None => eprintln!("  {mark} {text}"),
        }
    }

    /// Takes the live part away.
    pub fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// The picture as text: the callers on the left, the versions that answered on the right.
fn draw(title: &str, who: &str, tally: &Tally) -> String {
    let total: u64 = tally.versions.values().sum();
    let mut lines = vec![format!("{title}   {:.0} requests/s", rate(tally)), String::new()];
    for (at, (version, count)) in tally.versions.iter().enumerate() {
        let share = if total == 0 { 0.0 } else { *count as f64 / total as f64 };
        // Lossless: the share is between 0 and 1.
        let filled = (share * BAR as f64).round() as usize;
        let left = if at == 0 {
            format!("{who:>10} \u{2550}\u{2550}mTLS\u{2550}\u{2550}\u{25b6}")
        } else {
            format!("{:>10}       \u{2514}\u{2500}\u{25b6}", "")
        };
        let bar: String = "\u{2588}".repeat(filled) + &"\u{2591}".repeat(BAR - filled);
        lines.push(format!("  {left} payment {version:<7} {bar} {count:>7}  {:>5.1} %", share * 100.0));
    }
    let denied = tally.statuses.get(&403).copied().unwrap_or_default();
    if denied > 0 {
        lines.push(format!("  {who:>10} \u{2500}\u{2500}\u{2500}\u{2500}\u{2500}\u{2500}\u{2500}\u{2718} 403 denied {denied:>7}"));
    }
    lines.push(format!("  {:>10} failed {}", "", tally.failed));
    lines.join("\n")
}

fn rate(tally: &Tally) -> f64 {
    if tally.seconds > 0.0 { tally.sent as f64 / tally.seconds } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_picture_shows_shares_and_denials() {
        let mut tally = Tally { sent: 100, seconds: 0.1, ..Tally::default() };
        tally.versions.insert("stable".to_owned(), 95);
        tally.versions.insert("canary".to_owned(), 5);
        let text = draw("the canary share", "frontend", &tally);
        assert!(
            text.contains("95.0 %") && text.contains("1000 requests/s") && !text.contains("403"),
            "{text}"
        );
        tally.statuses.insert(403, 7);
        assert!(draw("t", "stranger", &tally).contains("403 denied       7"));
    }
}
