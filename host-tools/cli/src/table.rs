//! Aligned columns for people.

/// How a column is aligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// Rows under a heading; columns are as wide as their widest cell.
pub(crate) struct Table {
    align: Vec<Align>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table with this heading.
    pub(crate) fn new<const N: usize>(heading: [&str; N], align: [Align; N]) -> Self {
        Table { align: align.to_vec(), rows: vec![heading.map(str::to_owned).to_vec()] }
    }

    /// Adds a row with as many cells as there are columns.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The lines, without trailing spaces.
    pub(crate) fn lines(&self) -> impl Iterator<Item = String> {
        let width = |column: usize| {
            let wide = |row: &Vec<String>| row.get(column).map_or(0, |cell| cell.chars().count());
            self.rows.iter().map(wide).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.align.len()).map(width).collect();
        self.rows.iter().map(move |row| {
            let mut line = String::new();
            for ((cell, width), align) in row.iter().zip(&widths).zip(&self.align) {
                if !line.is_empty() {
                    line.push_str("  ");
                }
                let gap = " ".repeat(width - cell.chars().count());
                match align {
                    Align::Left => line.extend([cell.as_str(), &gap]),
                    Align::Right => line.extend([gap.as_str(), cell]),
                }
            }
            line.truncate(line.trim_end().len());
            line
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_by_letters_not_bytes() {
        let mut table = Table::new(["NAME", "SIZE", "NOTE"], [Align::Left, Align::Right, Align::Left]);
        table.row(["Entwürfe".to_owned(), "5 B".to_owned(), String::new()]);
        table.row(["a".to_owned(), "1.00 KiB".to_owned(), "x".to_owned()]);
        let lines: Vec<String> = table.lines().collect();
        assert_eq!(lines, ["NAME          SIZE  NOTE", "Entwürfe       5 B", "a         1.00 KiB  x"]);
    }
}
