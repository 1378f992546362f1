//! Grafana's form of a dashboard: schema 39, which Grafana 11 writes and later ones read.

use serde_json::{Value, json};

use crate::{Dashboard, Kind, Panel, Row, Series, Unit};

/// Grafana's screen is this wide, in columns.
const WIDTH: usize = 24;
/// Height of a panel over time, and of one with a number alone, in Grafana's lines of 30 pixels.
const TALL: usize = 8;
const LOW: usize = 4;

/// The dashboard as Grafana imports it.
pub fn grafana(dashboard: &Dashboard) -> Value {
    let mut panels = Vec::new();
    let mut top = 0;
    for row in &dashboard.rows {
        top = add(&mut panels, row, top);
    }
    json!({
        "uid": dashboard.uid,
        "title": dashboard.title,
        "description": dashboard.tells,
        "tags": ["rollcall"],
        "schemaVersion": 39,
        "editable": false,
        "graphTooltip": 1,
        "refresh": "1m",
        // Jobs run hourly: anything shorter shows a run or two.
        "time": {"from": "now-24h", "to": "now"},
        "timezone": "utc",
        "templating": {"list": [source(), namespaces()]},
        "panels": panels,
    })
}

fn source() -> Value {
    json!({"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"})
}

// `.*` and not a list of all, so that jobs that push without a namespace are seen too.
fn namespaces() -> Value {
    let query = "label_values(rollcall_job_last_run_timestamp_seconds, namespace)";
    json!({
        "name": "namespace", "label": "Namespace", "type": "query", "datasource": reference(),
        "query": {"query": query, "refId": "namespaces"}, "definition": query,
        "refresh": 2, "sort": 1, "multi": true, "includeAll": true, "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    })
}

fn reference() -> Value {
    json!({"type": "prometheus", "uid": "${source}"})
}

/// Adds a row's heading and panels below `top`; returns where the next row goes.
fn add(panels: &mut Vec<Value>, row: &Row, top: usize) -> usize {
    let low = row.panels.iter().all(|panel| panel.kind == Kind::Number);
    let (width, height) = (WIDTH / row.panels.len(), if low { LOW } else { TALL });
    let position = |x, y, w, h| json!({"x": x, "y": y, "w": w, "h": h});
    panels.push(json!({
        "id": panels.len() + 1, "type": "row", "title": row.title, "collapsed": false, "panels": [],
        "gridPos": position(0, top, WIDTH, 1),
    }));
    for (column, panel) in row.panels.iter().enumerate() {
        let id = panels.len() + 1;
        panels.push(draw(panel, id, &position(column * width, top + 1, width, height)));
    }
    top + 1 + height
}

fn draw(panel: &Panel, id: usize, position: &Value) -> Value {
    let number = panel.kind == Kind::Number;
    let options = if number {
        json!({"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": false}, "colorMode": "background",
            "graphMode": "none", "textMode": "auto"})
    } else {
        json!({"legend": {"displayMode": "list", "placement": "bottom", "showLegend": true},
            "tooltip": {"mode": "multi", "sort": "desc"}})
    };
    json!({
        "id": id,
        "type": if number { "stat" } else { "timeseries" },
        "title": panel.title,
        "description": panel.tells,
        "datasource": reference(),
        "gridPos": position,
        "targets": panel.series.iter().enumerate().map(|(n, series)| target(n, series, number)).collect::<Value>(),
        "fieldConfig": {"defaults": defaults(panel), "overrides": []},
        "options": options,
    })
}

fn target(n: usize, series: &Series, instant: bool) -> Value {
    let letter = char::from(b'A'.saturating_add(u8::try_from(n).unwrap_or(u8::MAX)));
    json!({
        "refId": letter.to_string(), "datasource": reference(), "expr": series.expr.trim(),
        "legendFormat": series.name, "instant": instant, "range": !instant,
    })
}

fn defaults(panel: &Panel) -> Value {
    let unit = match panel.unit {
        Unit::Count => "short",
        Unit::Seconds => "s",
        Unit::Share => "percentunit",
    };
    let mut steps = vec![json!({"color": "green", "value": null})];
    steps.extend(panel.red_from.map(|from| json!({"color": "red", "value": from})));
    let stacked = panel.kind == Kind::Stacked;
    let lines = json!({
        "drawStyle": "line", "lineInterpolation": "stepAfter", "fillOpacity": if stacked { 30 } else { 0 },
        "stacking": {"mode": if stacked { "normal" } else { "none" }}, "showPoints": "never",
        "thresholdsStyle": {"mode": if panel.red_from.is_some() { "line" } else { "off" }},
    });
    json!({
        "unit": unit, "min": 0, "custom": if panel.kind == Kind::Number { json!({}) } else { lines },
        "color": {"mode": if panel.kind == Kind::Number { "thresholds" } else { "palette-classic" }},
        "thresholds": {"mode": "absolute", "steps": steps},
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse;

    fn drawn() -> Value {
        let text = "
uid: u
title: T
tells: Something.
rows:
  - title: Numbers
    panels:
      - {title: A, unit: seconds, kind: number, tells: t, red_from: 5400, series: [{name: a, expr: ' up '}]}
      - {title: B, unit: count, kind: number, tells: t, series: [{name: b, expr: up}]}
  - title: Lines
    panels:
      - {title: C, unit: share, kind: stacked, tells: t, series: [{name: '{{x}}', expr: c}, {name: d, expr: d}]}
";
        grafana(&parse(text).unwrap())
    }

    #[test]
    fn panels_stand_beside_each_other_below_the_heading_of_their_row() {
        let drawn = drawn();
        let places: Vec<String> = drawn["panels"]
            .as_array()
            .unwrap()
            .iter()
            .map(|p| {
                let at = &p["gridPos"];
                format!("{} {},{} {}x{}", p["title"].as_str().unwrap(), at["x"], at["y"], at["w"], at["h"])
            })
            .collect();
        assert_eq!(places, ["Numbers 0,0 24x1", "A 0,1 12x4", "B 12,1 12x4", "Lines 0,5 24x1", "C 0,6 24x8"]);
    }

    #[test]
    fn every_panel_has_an_id_of_its_own_and_every_series_a_letter() {
        let drawn = drawn();
        let ids: Vec<u64> = drawn["panels"].as_array().unwrap().iter().map(|p| p["id"].as_u64().unwrap()).collect();
        assert_eq!(ids, [1, 2, 3, 4, 5]);
        let letters: Vec<&str> =
            drawn["panels"][4]["targets"].as_array().unwrap().iter().map(|t| t["refId"].as_str().unwrap()).collect();
        assert_eq!(letters, ["A", "B"]);
    }

    #[test]
    fn a_number_is_red_from_its_threshold_on() {
        let defaults = &drawn()["panels"][1]["fieldConfig"]["defaults"];
        assert_eq!(defaults["thresholds"]["steps"][1], json!({"color": "red", "value": 5400}));
        assert_eq!((&defaults["unit"], &drawn()["panels"][1]["targets"][0]["expr"]), (&json!("s"), &json!("up")));
    }
}
