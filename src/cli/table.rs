//! Columns of text that fit on a screen.

use crate::reply::steers;

/// Most characters of a line.
const WIDTH: usize = 100;
/// A column is not cut below that.
const NARROWEST: usize = 8;
/// Between two columns.
const GAP: &str = "  ";

/// A column: its name, and whether what is in it may be cut to make room; ids may not, they are to be copied.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column<'a>(pub &'a str, pub bool);

/// What nobody tells is neither; a no stands out.
pub(super) fn yes_or_no(told: Option<bool>) -> &'static str {
    match told {
        Some(true) => "yes",
        Some(false) => "NO",
        None => "-",
    }
}

/// A line for the names, and one for each row.
pub(super) fn table(columns: &[Column<'_>], rows: &[Vec<String>]) -> String {
    let widths = widths(columns, rows);
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let cells: Vec<String> = cells.zip(&widths).map(|(cell, width)| padded(cell, *width)).collect();
        format!("{}\n", cells.join(GAP).trim_end())
    };
    let head = line(&mut columns.iter().map(|column| column.0));
    printable(&rows.iter().map(|row| line(&mut row.iter().map(String::as_str))).fold(head, |all, line| all + &line))
}

/// The same, and nothing is cut: values can be copied whole.
pub(super) fn columns(names: &[&str], rows: &[Vec<String>]) -> String {
    table(&names.iter().map(|name| Column(name, false)).collect::<Vec<_>>(), rows)
}

/// As wide as the longest cell; then the widest of those that may be cut gives way, until all fits.
fn widths(columns: &[Column<'_>], rows: &[Vec<String>]) -> Vec<usize> {
    let width = |(n, column): (usize, &Column<'_>)| {
        let cells = rows.iter().filter_map(|row| row.get(n)).map(|cell| cell.chars().count());
        cells.chain([column.0.chars().count()]).max().unwrap_or(0)
    };
    let mut widths: Vec<usize> = columns.iter().enumerate().map(width).collect();
    loop {
        let whole = widths.iter().sum::<usize>() + GAP.len() * widths.len().saturating_sub(1);
        let widest = widths.iter_mut().zip(columns).filter(|(_, column)| column.1).map(|(width, _)| width);
        match widest.max_by_key(|width| **width).filter(|width| **width > NARROWEST) {
            Some(widest) if whole > WIDTH => *widest -= 1,
            _ => return widths,
        }
    }
}

/// Words of others, without what steers a terminal: control characters, and those that turn the direction of writing.
pub(super) fn printable(text: &str) -> String {
    let steers = |c: char| c != '\n' && steers(c);
    if text.contains(steers) { text.replace(steers, "\u{fffd}") } else { text.to_owned() }
}

fn padded(cell: &str, width: usize) -> String {
    if cell.chars().count() <= width {
        return format!("{cell:width$}");
    }
    let kept: String = cell.chars().take(width.saturating_sub(1)).collect();
    format!("{kept}…")
}

/// A time of the API as people read it: UTC, to the second.
pub(super) fn moment(time: &str) -> String {
    time.trim_end_matches('Z').replace('T', " ")
}

/// So many of something: `1 address is`, `2 addresses are`.
pub(super) fn counted(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// A value, or a dash.
pub(super) fn or_dash(value: Option<&str>) -> String {
    value.filter(|value| !value.is_empty()).unwrap_or("-").to_owned()
}
