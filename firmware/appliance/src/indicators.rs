//! Patterns to lamps: tells the board at each edge, and only then, what is lit and what that means.

use mailkeep_board::{Board, Look};
use mailkeep_controller::{Lamp, Moment, Pattern, State, lamps};

use crate::words;

/// What the board shows now.
#[derive(Debug, Default)]
pub struct Indicators {
    shown: [Option<(Pattern, bool)>; 3],
    complained: bool,
}

impl Indicators {
    /// Brings the board up to date. Returns the moment of the next edge, if anything blinks.
    pub fn refresh(&mut self, board: &mut dyn Board, state: &State, now: Moment) -> Option<Moment> {
        let patterns = lamps(state, now);
        for (lamp, pattern) in Lamp::ALL.into_iter().zip(patterns) {
            let lit = pattern.is_lit(now);
            let shown = &mut self.shown[lamp as usize];
            if *shown == Some((pattern, lit)) {
                continue;
            }
            if shown.map(|(was, _)| was) != Some(pattern) {
                tracing::debug!(lamp = ?lamp, pattern = pattern.word(), "lamp");
            }
            *shown = Some((pattern, lit));
            let look = Look { lit, pattern: pattern.word(), meaning: words::lamp(lamp, pattern) };
            if let Err(error) = board.set_lamp(on_board(lamp), look) {
                // Tried again at the next edge; said once, for a dead lamp has an edge every 125 ms.
                *shown = None;
                if !std::mem::replace(&mut self.complained, true) {
                    tracing::error!("{}", words::chain(&error));
                }
            }
        }
        patterns.into_iter().filter_map(|pattern| pattern.next_edge(now)).min()
    }
}

fn on_board(lamp: Lamp) -> mailkeep_board::Lamp {
    match lamp {
        Lamp::Status => mailkeep_board::Lamp::Status,
        Lamp::Disk => mailkeep_board::Lamp::Disk,
        Lamp::Fault => mailkeep_board::Lamp::Fault,
    }
}
