//! A text as a QR code, for a terminal and for paper.
//!
//! Around a code there is an empty border of four modules: without it nothing finds the code.

use qrcode::{Color, EcLevel, QrCode};

/// Modules of the empty border on each side.
const BORDER: usize = 4;

/// What a block character is drawn for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ink {
    /// Dark on light: paper, or a terminal that was told its colours.
    Dark,
    /// The letters are lighter than what is behind them, as in most terminals.
    Light,
}

/// A QR code.
pub(crate) struct Code {
    width: usize,
    modules: Vec<Color>,
}

impl Code {
    /// The code of a text; nothing if that is too long for one.
    pub(crate) fn of(text: &str) -> Option<Code> {
        let code = QrCode::with_error_correction_level(text, EcLevel::M).ok()?;
        Some(Code { width: code.width(), modules: code.into_colors() })
    }

    /// Modules on each side, with the border.
    pub(crate) fn size(&self) -> usize {
        self.width + 2 * BORDER
    }

    /// Whether a module is dark; the border and all around it is not.
    fn is_dark(&self, column: usize, row: usize) -> bool {
        let inside = |at: usize| at.checked_sub(BORDER).filter(|at| *at < self.width);
        match (inside(column), inside(row)) {
            (Some(column), Some(row)) => self.modules.get(row * self.width + column) == Some(&Color::Dark),
            _ => false,
        }
    }

    /// Lines of half blocks, two modules in each letter.
    pub(crate) fn blocks(&self, ink: Ink) -> Vec<String> {
        let drawn = |column, row| self.is_dark(column, row) == (ink == Ink::Dark);
        let letter = |column, row| match (drawn(column, row), drawn(column, row + 1)) {
            (true, true) => '█',
            (true, false) => '▀',
            (false, true) => '▄',
            (false, false) => ' ',
        };
        let line = |row| (0..self.size()).map(|column| letter(column, row)).collect();
        (0..self.size()).step_by(2).map(line).collect()
    }

    /// The same with colours of its own, black on white.
    pub(crate) fn coloured(&self) -> Vec<String> {
        self.blocks(Ink::Dark).into_iter().map(|line| format!("\x1b[30;107m{line}\x1b[0m")).collect()
    }

    /// A picture without a size of its own.
    pub(crate) fn svg(&self) -> String {
        let size = self.size();
        let mut path = String::new();
        for row in 0..size {
            for column in (0..size).filter(|column| self.is_dark(*column, row)) {
                path.push_str(&format!("M{column} {row}h1v1h-1z"));
            }
        }
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {size} {size}\" shape-rendering=\"crispEdges\">\
             <rect width=\"{size}\" height=\"{size}\" fill=\"#fff\"/><path d=\"{path}\" fill=\"#000\"/></svg>"
        )
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// What a reader of codes makes of lines of half blocks on paper.
    pub(crate) fn scanned(lines: &[String], ink: Ink) -> String {
        const SCALE: usize = 4;
        let width = lines.iter().map(|line| line.chars().count()).max().unwrap();
        let mut modules = vec![ink == Ink::Light; width * lines.len() * 2];
        for (row, line) in lines.iter().enumerate() {
            for (column, letter) in line.chars().enumerate() {
                let (upper, lower) = (matches!(letter, '█' | '▀'), matches!(letter, '█' | '▄'));
                modules[2 * row * width + column] = upper == (ink == Ink::Dark);
                modules[(2 * row + 1) * width + column] = lower == (ink == Ink::Dark);
            }
        }
        let mut picture =
            rqrr::PreparedImage::prepare_from_greyscale(width * SCALE, lines.len() * 2 * SCALE, |x, y| {
                if modules[y / SCALE * width + x / SCALE] { 0 } else { 255 }
            });
        let grids = picture.detect_grids();
        assert_eq!(grids.len(), 1, "{lines:#?}");
        grids[0].decode().unwrap().1
    }

    #[test]
    fn a_scanner_reads_what_went_in() {
        let text = format!("AGE-SECRET-KEY-1{}", "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L".repeat(2).split_at(58).0);
        let code = Code::of(&text).unwrap();
        // It fits a terminal of 80 by 24 letters.
        assert!(code.size() <= 46, "{}", code.size());
        for ink in [Ink::Dark, Ink::Light] {
            assert_eq!(scanned(&code.blocks(ink), ink), text);
        }
        assert_eq!(
            code.svg().matches("h1v1h-1z").count(),
            (0..code.size().pow(2)).filter(|at| { code.is_dark(at % code.size(), at / code.size()) }).count()
        );
        assert!(Code::of(&"x".repeat(4000)).is_none());
    }
}
