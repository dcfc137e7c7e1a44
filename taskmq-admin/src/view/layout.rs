use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::page::{Page, Theme};
use crate::pages::assets;
use crate::problem::Problem;
use crate::view::visible::visible_lines;

/// One stroke each, in the colour of the text.
const ICONS: [(&str, &str); 9] = [
    ("overview", "M4 13h4l2-7 4 13 2-6h4"),
    ("messages", "M4 6h16M4 12h16M4 18h10"),
    ("dead", "M12 4l9 16H3zM12 10v4M12 17v.5"),
    ("workers", "M5 5h14v6H5zM5 13h14v6H5zM8 8h.5M8 16h.5"),
    ("schedules", "M12 4a8 8 0 100 16 8 8 0 000-16M12 8v4l3 2"),
    ("workflows", "M9 4h6v4H9zM3 16h6v4H3zM15 16h6v4h-6zM12 8v4M6 16v-4h12v4"),
    ("changes", "M5 12a7 7 0 0112-5l2 2M19 5v4h-4M19 12a7 7 0 01-12 5l-2-2M5 19v-4h4"),
    ("audit", "M7 4h10v16H7zM10 8h4M10 12h4M10 16h2"),
    ("produce", "M12 5v14M5 12h14"),
];

impl Page {
    pub(crate) fn layout(&self, title: &str, body: &Markup) -> Markup {
        let texts = self.texts;
        html! {
            (DOCTYPE)
            html lang=(texts.code) data-theme=(self.theme.as_str()) {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    meta name="robots" content="noindex";
                    title { (title) " · taskmq" }
                    link rel="icon" href=(self.to("assets/icon.svg")) type="image/svg+xml";
                    link rel="stylesheet" href=(self.to(&assets::style()));
                    script src=(self.to(&assets::script())) defer {}
                }
                body data-root=(self.root) {
                    a.skip href="#main" { (texts.skip) }
                    header.side {
                        a.brand href=(self.to("overview")) aria-label="taskmq" {
                            img src=(self.to("assets/icon.svg")) alt="" width="26" height="26";
                            span { "taskmq" }
                            @if self.shared.read_only { span.badge { (texts.read_only) } }
                        }
                        nav aria-label=(texts.navigation) { (self.navigation()) }
                        (self.preferences())
                        @if self.signed_in {
                            form method="post" action=(self.to("sign-out")) { button { (texts.sign_out) } }
                        }
                    }
                    main id="main" tabindex="-1" {
                        @if let Some(told) = self.told { p.notice.good[told != texts.unchecked] role="status" { (told) } }
                        (body)
                    }
                }
            }
        }
    }

    /// From where the admin is mounted to this page, for forms that lead back to it: what was just done is told once.
    pub(crate) fn back(&self) -> String {
        let Some((path, query)) = self.here.split_once('?') else { return self.here.clone() };
        let kept: Vec<&str> = query.split('&').filter(|pair| !pair.starts_with("told=")).collect();
        if kept.is_empty() { path.to_owned() } else { format!("{path}?{}", kept.join("&")) }
    }

    fn navigation(&self) -> Markup {
        let texts = self.texts;
        let names = [
            texts.overview,
            texts.messages,
            texts.dead_letters,
            texts.workers,
            texts.schedules,
            texts.workflows,
            texts.changes,
            texts.audit,
            texts.produce,
        ];
        let path = self.here.split(['?', '/']).next().unwrap_or_default();
        let path = if matches!(path, "" | "topic") { "overview" } else { path };
        html! {
            ul {
                @for ((target, icon), name) in ICONS.iter().zip(names) {
                    @if !(self.shared.read_only && matches!(*target, "produce" | "changes")) {
                        li { a href=(self.to(target)) aria-current=[(path == *target).then_some("page")] {
                            svg.icon viewBox="0 0 24 24" aria-hidden="true" { path d=(icon) {} }
                            span { (name) }
                        } }
                    }
                }
            }
        }
    }

    fn preferences(&self) -> Markup {
        let texts = self.texts;
        html! {
            form.preferences method="post" action=(self.to("preferences")) {
                input type="hidden" name="back" value=(self.back());
                div.segments role="group" aria-label=(texts.theme) {
                    @for (theme, name) in Theme::ALL.into_iter().zip([texts.theme_auto, texts.theme_light, texts.theme_dark]) {
                        button name="theme" value=(theme.as_str()) aria-pressed=(self.theme == theme) { (name) }
                    }
                }
                div.segments role="group" aria-label=(texts.language) {
                    button name="language" value="en" lang="en" aria-pressed=(texts.code == "en") { "English" }
                    button name="language" value="zh" lang="zh-CN" aria-pressed=(texts.code != "en") { "中文" }
                }
            }
        }
    }

    pub(crate) fn problem(&self, problem: &Problem) -> Markup {
        let words = problem.words(self.texts);
        html! {
            h1 { (self.texts.problem) }
            p.notice.bad role="alert" { (visible_lines(&words)) }
            p.actions { button type="button" data-back hidden { (self.texts.go_back) } " " a.button href=(self.to("overview")) { (self.texts.overview) } }
        }
    }
}

/// A mark: three messages in a lane.
pub(crate) const ICON: PreEscaped<&str> = PreEscaped(
    r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="9" fill="#4f6bed"/><path d="M8 11h9M8 16h16M8 21h12" stroke="#fff" stroke-width="3" stroke-linecap="round"/></svg>"##,
);
