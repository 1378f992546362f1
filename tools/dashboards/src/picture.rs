//! A row of panels as a picture: an SVG for those who read the documents and have no Grafana at hand.
//!
//! It draws what it is given, the same each time. It knows no Prometheus: whoever calls it has asked for the numbers.

use std::ops::Range;

use plotters::{
    coord::Shift,
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use crate::{Kind, Panel, Row, Unit};

const WIDTH: u32 = 1000;
/// Heights of a panel over time and of one with numbers alone.
const TALL: u32 = 280;
const LOW: u32 = 110;
/// Height of the names below a panel over time.
const LEGEND: u32 = 58;
const FONT: &str = "sans-serif";
/// About the width of a letter of the legend.
const LETTER: i32 = 7;
const GREY: RGBColor = RGBColor(110, 110, 110);
const COLOURS: [RGBColor; 8] = [
    RGBColor(88, 148, 196),
    RGBColor(230, 159, 70),
    RGBColor(96, 172, 118),
    RGBColor(196, 98, 98),
    RGBColor(148, 120, 190),
    RGBColor(150, 120, 100),
    RGBColor(214, 130, 180),
    RGBColor(140, 140, 140),
];

/// A line of a panel.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// In the legend.
    pub name: String,
    /// Seconds since the beginning, and the value, in this order of time.
    pub points: Vec<(f64, f64)>,
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn std::error::Error>>;

/// A row as SVG: its panels, each with its lines, over `seconds` from the beginning.
///
/// # Errors
/// It cannot be drawn.
pub fn picture(row: &Row, lines: &[Vec<Line>], seconds: f64) -> Result<String, String> {
    let is_low = row.panels.iter().all(|panel| panel.kind == Kind::Number);
    let (columns, height) = if is_low { (3, LOW) } else { (2, TALL) };
    let columns = columns.min(row.panels.len());
    let high = row.panels.len().div_ceil(columns);
    let mut text = String::new();
    let drawn = (|| {
        let size = (WIDTH, height * u32::try_from(high)?);
        let screen = SVGBackend::with_string(&mut text, size).into_drawing_area();
        screen.fill(&WHITE)?;
        for ((panel, lines), area) in row.panels.iter().zip(lines).zip(screen.split_evenly((high, columns))) {
            if panel.kind == Kind::Number { number(&area, panel, lines) } else { graph(&area, panel, lines, seconds) }?;
        }
        screen.present()?;
        drop(screen);
        Drawn::Ok(())
    })();
    drawn.map_err(|error| format!("row {:?}: {error}", row.title))?;
    Ok(text)
}

/// The latest value of each line.
fn number(area: &Area<'_>, panel: &Panel, lines: &[Line]) -> Drawn {
    let centred = Pos::new(HPos::Center, VPos::Center);
    let middle = i32::try_from(area.dim_in_pixel().0 / 2)?;
    area.draw(&Text::new(panel.title.clone(), (middle, 18), TextStyle::from((FONT, 15)).pos(centred)))?;
    let told = lines.iter().filter_map(|line| Some((line, line.points.last()?.1)));
    for ((line, value), row) in told.zip(0..) {
        let is_red = panel.red_from.is_some_and(|from| value >= from as f64);
        let colour = if is_red { RGBColor(190, 40, 40) } else { RGBColor(40, 120, 60) };
        let top = 52 + 40 * row;
        let big = TextStyle::from((FONT, 26)).color(&colour).pos(centred);
        area.draw(&Text::new(shown(value, panel.unit), (middle, top), big))?;
        let small = TextStyle::from((FONT, 12)).color(&GREY).pos(centred);
        area.draw(&Text::new(format!("{} ({})", line.name.trim(), unit(panel.unit)), (middle, top + 24), small))?;
    }
    Ok(())
}

fn graph(area: &Area<'_>, panel: &Panel, lines: &[Line], seconds: f64) -> Drawn {
    let (chart, legend) = area.split_vertically(area.dim_in_pixel().1 - LEGEND);
    let stacked = panel.kind == Kind::Stacked;
    let drawn = if stacked { piled(lines) } else { lines.to_vec() };
    let highest = drawn.iter().flat_map(|line| &line.points).map(|(_, value)| *value).fold(0.0, f64::max);
    let top = if highest > 0.0 { highest * 1.1 } else { 1.0 };
    let mut chart = ChartBuilder::on(&chart)
        .caption(&panel.title, (FONT, 15))
        .margin(6)
        .margin_right(18)
        .x_label_area_size(32)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..seconds, Range { start: 0.0, end: top })?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(RGBColor(225, 225, 225))
        .axis_style(GREY)
        .label_style((FONT, 12))
        .x_labels(5)
        .y_labels(4)
        .x_label_formatter(&|at| format!("{}:{:02}", (at / 60.0).floor(), (at % 60.0).round()))
        .y_label_formatter(&|value| shown(*value, panel.unit))
        .x_desc("minutes:seconds")
        .y_desc(unit(panel.unit))
        .draw()?;
    // The topmost pile first, so that each covers the one it stands on.
    for (place, line) in drawn.iter().enumerate().rev() {
        let colour = COLOURS[place % COLOURS.len()];
        for piece in pieces(&line.points, seconds) {
            if stacked {
                chart.draw_series(AreaSeries::new(piece.iter().copied(), 0.0, colour))?;
            } else {
                chart.draw_series(LineSeries::new(piece.iter().copied(), colour.stroke_width(2)))?;
            }
        }
    }
    if let Some(from) = panel.red_from.map(|from| from as f64).filter(|from| *from < top) {
        chart.draw_series(LineSeries::new([(0.0, from), (seconds, from)], RGBColor(190, 40, 40)))?;
    }
    names(&legend, &drawn)
}

/// The names of the lines, each with its colour.
fn names(area: &Area<'_>, lines: &[Line]) -> Drawn {
    let width = i32::try_from(area.dim_in_pixel().0)?;
    let (mut left, mut top) = (64, 10);
    for (place, line) in lines.iter().enumerate() {
        let name = if line.name.trim().is_empty() { "all" } else { line.name.trim() };
        let needed = LETTER * i32::try_from(name.chars().count())? + 26;
        if left + needed > width && left > 64 {
            (left, top) = (64, top + 16);
        }
        let colour = COLOURS[place % COLOURS.len()];
        area.draw(&Rectangle::new([(left, top - 5), (left + 10, top + 5)], colour.filled()))?;
        let style = TextStyle::from((FONT, 12)).pos(Pos::new(HPos::Left, VPos::Center));
        area.draw(&Text::new(name.to_owned(), (left + 15, top), style))?;
        left += needed;
    }
    Ok(())
}

/// Each line standing on the ones before it; where one has no value it is as thick as nothing.
fn piled(lines: &[Line]) -> Vec<Line> {
    let mut times: Vec<f64> = lines.iter().flat_map(|line| &line.points).map(|(at, _)| *at).collect();
    times.sort_by(f64::total_cmp);
    times.dedup();
    let mut below = vec![0.0; times.len()];
    let pile = |line: &Line| {
        for (at, height) in times.iter().zip(&mut below) {
            *height += line.points.iter().find(|(time, _)| time.total_cmp(at).is_eq()).map_or(0.0, |(_, value)| *value);
        }
        Line { name: line.name.clone(), points: times.iter().copied().zip(below.iter().copied()).collect() }
    };
    lines.iter().map(pile).collect()
}

/// The parts of a line between which nothing is known.
fn pieces(points: &[(f64, f64)], seconds: f64) -> impl Iterator<Item = &[(f64, f64)]> {
    points.chunk_by(move |one, next| next.0 - one.0 < seconds / 20.0)
}

fn unit(unit: Unit) -> &'static str {
    match unit {
        Unit::Count => "count",
        Unit::Seconds => "time",
        Unit::Share => "percent",
    }
}

/// A value as people say it.
fn shown(value: f64, unit: Unit) -> String {
    let plain = |value: f64| if value.fract().abs() < 0.05 { format!("{value:.0}") } else { format!("{value:.1}") };
    match unit {
        Unit::Count => plain(value),
        Unit::Share => format!("{} %", plain(value * 100.0)),
        Unit::Seconds if value < 120.0 => format!("{} s", plain(value)),
        Unit::Seconds if value < 7200.0 => format!("{} min", plain(value / 60.0)),
        Unit::Seconds => format!("{} h", plain(value / 3600.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse;

    fn row(kind: &str) -> Row {
        let text = format!(
            "{{uid: u, title: T, tells: t, rows: [{{title: Row, panels: [{{title: Some panel, unit: seconds, kind: {kind}, \
             tells: t, red_from: 100, series: [{{name: a, expr: up}}]}}]}}]}}"
        );
        parse(&text).expect("a description").rows.remove(0)
    }

    fn line(name: &str, values: [f64; 3]) -> Line {
        Line { name: name.to_owned(), points: [0.0, 1.0, 2.0].into_iter().zip(values).collect() }
    }

    #[test]
    fn a_picture_has_title_axes_unit_and_legend() {
        let text = picture(&row("lines"), &[vec![line("first", [1.0, 2.0, 150.0])]], 2.0).expect("it can be drawn");
        for wanted in ["Some panel", "minutes:seconds", "0:01", "first", "time", "<polyline"] {
            assert!(text.contains(wanted), "{wanted}: {text}");
        }
        assert_eq!(text, picture(&row("lines"), &[vec![line("first", [1.0, 2.0, 150.0])]], 2.0).expect("once more"));
    }

    #[test]
    fn a_number_is_the_latest_with_its_unit() {
        let text = picture(&row("number"), &[vec![line("here", [1.0, 2.0, 7300.0])]], 2.0).expect("it can be drawn");
        assert!(text.contains("2 h") && text.contains("here (time)"), "{text}");
    }

    #[test]
    fn piles_stand_on_each_other_and_lines_break_where_nothing_is_known() {
        let piles = piled(&[line("low", [1.0, 2.0, 3.0]), line("high", [10.0, 10.0, 10.0])]);
        assert_eq!(piles[1].points, [(0.0, 11.0), (1.0, 12.0), (2.0, 13.0)]);
        let points = [(0.0, 1.0), (1.0, 1.0), (50.0, 1.0)];
        assert_eq!(pieces(&points, 100.0).map(<[_]>::len).collect::<Vec<_>>(), [2, 1]);
    }
}
