//! The screen of `tulle top`.

use std::collections::VecDeque;
use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::time::Duration;

use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Block, Cell, Row as TableRow, Table};
use serde_json::Value;

use super::sums::{By, Row, Sums};
use super::{cells, heads};
use crate::Error;
use crate::control::{self, Address};

/// How many lines of `tulled`, one a second, the numbers are made of.
const WINDOW: usize = 5;
/// How often keys are looked for.
const KEYS: Duration = Duration::from_millis(100);

/// Shows the screen until `q`.
///
/// # Errors
/// There is no terminal, or `tulled` goes away.
pub fn run(address: Address, path: &str) -> Result<ExitCode, Error> {
    if !std::io::stdout().is_terminal() {
        return Err("standard output is no terminal: --once prints the tables a single time".into());
    }
    let (sender, lines) = mpsc::sync_channel(WINDOW);
    let (path, last) = (path.to_owned(), sender.clone());
    // Ends with the process: it may be waiting for the next line.
    drop(runtime::thread::spawn("tulled", move || {
        let read = control::lines(address, &path, None, |line| {
            Ok(if sender.send(Ok(line)).is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        });
        if let Err(error) = read {
            // Nobody may be there any more.
            let _ = last.send(Err(error.to_string()));
        }
    })?);
    let mut terminal = ratatui::try_init()?;
    let shown = show(&mut terminal, &lines);
    ratatui::restore();
    shown.map(|()| ExitCode::SUCCESS)
}

fn show(
    terminal: &mut ratatui::DefaultTerminal,
    lines: &Receiver<Result<Value, String>>,
) -> Result<(), Error> {
    let mut window: VecDeque<Value> = VecDeque::new();
    loop {
        loop {
            match lines.try_recv() {
                Ok(Ok(line)) => {
                    if window.len() == WINDOW {
                        window.pop_front();
                    }
                    window.push_back(line);
                }
                Ok(Err(error)) => return Err(error.into()),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return Ok(()),
            }
        }
        let mut sums = Sums::default();
        window.iter().for_each(|line| sums.add(line));
        terminal.draw(|frame| draw(frame, &sums))?;
        if event::poll(KEYS)? && is_end(&event::read()?) {
            return Ok(());
        }
    }
}

fn is_end(event: &Event) -> bool {
    let Event::Key(key) = event else { return false };
    let interrupt = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
    key.kind == KeyEventKind::Press && (interrupt || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc))
}

fn draw(frame: &mut Frame<'_>, sums: &Sums) {
    let areas: [Rect; 4] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Fill(1),
        Constraint::Fill(1),
        Constraint::Fill(1),
    ])
    .areas(frame.area());
    let title = format!(
        "tulle top: {} proxies, the last {:.0} s; q ends{}",
        sums.proxies,
        sums.seconds,
        if sums.refusals.is_empty() {
            String::new()
        } else {
            format!("; not counted: {}", sums.refusals.join("; "))
        }
    );
    frame.render_widget(Line::from(title), areas[0]);
    for (by, area) in By::ALL.into_iter().zip(&areas[1..]) {
        table(frame, *area, by, &sums.rows(by));
    }
}

fn table(frame: &mut Frame<'_>, area: Rect, by: By, rows: &[Row]) {
    let shown = usize::from(area.height.saturating_sub(3));
    let more = rows.len().saturating_sub(shown);
    let below = if more > 0 { format!(" {more} more ") } else { String::new() };
    let rows = rows.iter().take(shown).map(|row| {
        let color = match row.success {
            success if success >= 0.999 => Color::Reset,
            success if success >= 0.95 => Color::Yellow,
            _ => Color::Red,
        };
        let cells = cells(row).into_iter().enumerate().map(|(column, cell)| {
            Cell::from(cell).style(if column == 4 { Style::new().fg(color) } else { Style::new() })
        });
        TableRow::new(cells)
    });
    let widths = [
        Constraint::Fill(1),
        Constraint::Length(8),
        Constraint::Length(9),
        Constraint::Length(9),
        Constraint::Length(9),
        Constraint::Length(9),
        Constraint::Length(9),
    ];
    let head = TableRow::new(heads(by)).style(Style::new().add_modifier(Modifier::BOLD));
    let block = Block::bordered().title_bottom(below);
    frame.render_widget(Table::new(rows, widths).header(head).block(block), area);
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use serde_json::json;

    #[test]
    fn the_screen_shows_services_routes_and_peers() {
        let mut sums = Sums::default();
        let one = json!({"proxy": "n/a", "direction": "outbound", "service": "payment", "route": "the-route",
                         "peer": "n/b", "requests": 12, "failures": 6, "slots": [100], "counts": [12]});
        sums.add(&json!({"watching": 3, "seconds": 1.0, "refused": [], "sums": [one]}));
        let mut terminal = Terminal::new(TestBackend::new(110, 24)).unwrap();
        terminal.draw(|frame| draw(frame, &sums)).unwrap();
        let shown = terminal.backend().to_string();
        for part in ["3 proxies", "payment", "the-route", "n/a → n/b", "12.0", "50.00 %"] {
            assert!(shown.contains(part), "no {part} in\n{shown}");
        }
    }
}
