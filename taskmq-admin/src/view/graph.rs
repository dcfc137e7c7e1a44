//! A workflow as a picture: each step below those that it waits for. Its colours are the style sheet's.

use std::collections::HashMap;

use maud::{Markup, html};
use rust_sugiyama::configure::Config;
use rust_sugiyama::from_vertices_and_edges;
use taskmq_core::broker::Step;

use crate::page::Page;
use crate::view::visible::visible_text;

/// Of a step.
const WIDTH: f64 = 200.0;
const HEIGHT: f64 = 46.0;
/// Between two, whichever way.
const GAP: f64 = 34.0;
/// So much of a name fits; what is not ASCII may be twice as wide.
const CHARS: usize = 22;
/// What has more is a list only: nobody could read it, and it would take long to lay out.
const STEPS: usize = 100;
const LINES: usize = 400;

/// Where the middle of each step is.
struct Layout {
    places: HashMap<i32, (f64, f64)>,
    width: f64,
    height: f64,
}

/// `None` when there is too much to draw.
pub(crate) fn draw(page: &Page, label: &str, steps: &[Step], own: Option<i32>) -> Option<Markup> {
    if steps.len() > STEPS || steps.iter().map(|step| step.after.len()).sum::<usize>() > LINES {
        return None;
    }
    let Layout { places, width, height } = layout(steps);
    let place = |step: i32| places.get(&step).copied().unwrap_or_default();
    let (full_width, full_height) = (width + 2.0, height + 2.0);
    Some(html! {
        div.scroll.graph tabindex="0" role="region" aria-label=(label) {
            svg viewBox=(format!("-1 -1 {full_width} {full_height}")) width=(full_width) height=(full_height) role="group" aria-label=(label) {
                @for step in steps {
                    @for before in &step.after {
                        path.link.done[steps.iter().any(|s| s.step == *before && s.done_at.is_some())] d=(line(place(*before), place(step.step))) {}
                    }
                }
                @for step in steps {
                    @match step.message_id {
                        Some(id) => a href=(page.to(&format!("messages/{id}"))) { (node(page, step, place(step.step), own)) },
                        None => (node(page, step, place(step.step), own)),
                    }
                }
            }
        }
    })
}

fn node(page: &Page, step: &Step, (x, y): (f64, f64), own: Option<i32>) -> Markup {
    let name = visible_text(&step.name);
    let short = shortened(&name);
    let (left, top) = (x - WIDTH / 2.0, y - HEIGHT / 2.0);
    let own = own == Some(step.step);
    html! {
        g class={ "step " (step.state) (if own { " own" } else { "" }) } {
            title { (name) " · " (visible_text(&step.topic)) " · " (page.texts.step_state(step.state)) }
            rect x=(left) y=(top) width=(WIDTH) height=(HEIGHT) rx="9" {}
            circle cx=(left + 14.0) cy=(y) r="4" {}
            text x=(left + 26.0) y=(y - 3.0) { (short) }
            text.about x=(left + 26.0) y=(y + 13.0) { (page.texts.step_state(step.state)) }
        }
    }
}

fn shortened(name: &str) -> String {
    let mut room = CHARS;
    let mut wide = name.char_indices().map(|(at, c)| (at, if c.is_ascii() { 1 } else { 2 }));
    let end = wide.find_map(|(at, width)| match room.checked_sub(width) {
        Some(left) => {
            room = left;
            None
        }
        None => Some(at),
    });
    end.map_or_else(|| name.to_owned(), |end| format!("{}…", name[..end].trim_end()))
}

/// From the bottom of one to the top of another.
fn line((from_x, from_y): (f64, f64), (to_x, to_y): (f64, f64)) -> String {
    let (from_y, to_y) = (from_y + HEIGHT / 2.0, to_y - HEIGHT / 2.0);
    let bend = (to_y - from_y) / 2.0;
    format!(
        "M{from_x:.0} {from_y:.0}C{from_x:.0} {:.0} {to_x:.0} {:.0} {to_x:.0} {to_y:.0}",
        from_y + bend,
        to_y - bend
    )
}

fn layout(steps: &[Step]) -> Layout {
    // The layout numbers them anew, from 0.
    let numbers: HashMap<i32, u32> = steps.iter().map(|step| step.step).zip(0..).collect();
    let number = |step: i32| numbers.get(&step).copied().unwrap_or_default();
    let vertices: Vec<_> = steps.iter().map(|step| (number(step.step), (WIDTH, HEIGHT))).collect();
    let edges: Vec<_> = steps
        .iter()
        .flat_map(|step| step.after.iter().map(|before| (number(*before), number(step.step))))
        .collect();
    let config = Config { vertex_spacing: GAP, ..Config::default() };
    let mut layout = Layout { places: HashMap::new(), width: 0.0, height: 0.0 };
    // Steps that have nothing to do with each other stand side by side.
    for (part, _, _) in from_vertices_and_edges(&vertices, &edges, &config) {
        let least = |of: fn(&(f64, f64)) -> f64| part.iter().map(|(_, at)| of(at)).fold(f64::MAX, f64::min);
        let (left, top) = (least(|at| at.0), least(|at| at.1));
        let begin = if layout.width > 0.0 { layout.width + GAP } else { 0.0 };
        for (step, (x, y)) in part {
            let (x, y) = (begin + x - left + WIDTH / 2.0, y - top + HEIGHT / 2.0);
            layout.width = layout.width.max(x + WIDTH / 2.0);
            layout.height = layout.height.max(y + HEIGHT / 2.0);
            layout.places.extend(steps.get(step).map(|step| (step.step, (x, y))));
        }
    }
    layout
}

#[cfg(test)]
mod tests {
    use taskmq_core::broker::StepState;

    use super::*;

    fn step(step: i32, after: &[i32]) -> Step {
        Step {
            step,
            name: format!("step {step}"),
            topic: "t".to_owned(),
            state: StepState::Waiting,
            message_id: None,
            after: after.to_vec(),
            done_at: None,
        }
    }

    #[test]
    fn names_are_cut_where_they_would_leave_their_box() {
        assert_eq!(shortened("fetch exchange rates!!"), "fetch exchange rates!!");
        assert_eq!(shortened("fetch exchange rates of today"), "fetch exchange rates o…");
        assert_eq!(shortened("从所有地区获取今天的订单"), "从所有地区获取今天的订…");
    }

    #[test]
    fn no_step_lies_on_another_and_each_below_those_before_it() {
        let shapes: [&[Step]; 4] = [
            &[step(1, &[])],
            &[step(1, &[]), step(2, &[]), step(3, &[])],
            &[step(1, &[]), step(2, &[1]), step(3, &[1]), step(4, &[2, 3]), step(5, &[1, 4])],
            &(1..=100)
                .map(|n| step(n, &(1..=4).map(|back| n - back * 7).filter(|n| *n > 0).collect::<Vec<_>>()))
                .collect::<Vec<_>>(),
        ];
        for steps in shapes {
            let Layout { places, width, height } = layout(steps);
            assert_eq!(places.len(), steps.len());
            for (at, one) in steps.iter().enumerate() {
                let (x, y) = places[&one.step];
                assert!(x >= WIDTH / 2.0 && x <= width - WIDTH / 2.0 && y >= HEIGHT / 2.0 && y <= height);
                for before in &one.after {
                    assert!(places[before].1 + HEIGHT < y, "{before} above {}", one.step);
                }
                for other in &steps[at + 1..] {
                    let (other_x, other_y) = places[&other.step];
                    assert!((x - other_x).abs() >= WIDTH || (y - other_y).abs() >= HEIGHT);
                }
            }
        }
    }
}
