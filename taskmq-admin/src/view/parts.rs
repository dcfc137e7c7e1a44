//! What several pages have.

use chrono::{DateTime, Utc};
use maud::{Markup, html};
use taskmq_core::broker::Summary;
use taskmq_core::{MessageId, State};

use crate::fields::query;
use crate::page::Page;
use crate::view::visible::{first_line, visible, visible_text};
use crate::view::{chart, format};

/// So many looks at the backlog a line has place for.
const LOOKS: usize = 60;

impl Page {
    pub(crate) fn state(&self, state: State) -> Markup {
        html! { span class={ "state " (state) } { (self.texts.state(state)) } }
    }

    pub(crate) fn topic_link(&self, topic: &str) -> Markup {
        html! {
            a.topic href=(self.to(&format!("topic{}", query(&[("name", topic)])))) title=(visible_text(topic)) {
                (visible(topic))
            }
        }
    }

    pub(crate) fn message_link(&self, id: MessageId) -> Markup {
        html! { a.id href=(self.to(&format!("messages/{id}"))) { "#" (id) } }
    }

    /// The part of a page that is kept up to date; `of` tells which one, and of what.
    pub(crate) fn live(&self, of: &[(&str, &str)], part: &Markup) -> Markup {
        let live = self.to(&format!("live{}", query(&[of, &[("root", &*self.root)]].concat())));
        html! { div id="live" data-live=(live) data-lost=(self.texts.lost) data-reload=(self.texts.reload) { (part) } }
    }

    /// How many were ready at the last looks, as a line and in words.
    pub(crate) fn backlog(&self, looks: &[i64]) -> Markup {
        let of = |look: Option<&i64>| format::number(look.copied().unwrap_or_default());
        let label = self.texts.backlog_of(&of(looks.last()), &of(looks.iter().max()));
        chart::spark(&label, looks, LOOKS)
    }

    /// The ways from this page of a list to others, the next one with its name, and what there is to say of its end.
    pub(crate) fn paging(
        &self,
        first: Option<String>,
        about: Option<Markup>,
        next: Option<(String, &str)>,
    ) -> Markup {
        let leads = first.is_some() || next.is_some();
        let content = html! {
            @if let Some(first) = first { a.button href=(first) { (self.texts.first_page) } }
            @if let Some(about) = &about { span.muted { (about) } }
            @if let Some((next, name)) = next { a.button rel="next" href=(next) { (name) } }
        };
        html! {
            @if leads { nav.paging aria-label=(self.texts.pages_of_list) { (content) } }
            @else if about.is_some() { div.paging { (content) } }
        }
    }

    pub(crate) fn empty(&self, title: &str, about: &Markup) -> Markup {
        html! { div.empty { p.title { (title) } p { (about) } } }
    }

    /// A list of messages; with a place to select each, if they may be changed.
    pub(crate) fn message_table(&self, now: DateTime<Utc>, messages: &[Summary], selectable: bool) -> Markup {
        let texts = self.texts;
        html! {
            div.scroll tabindex="0" role="region" aria-label=(texts.messages) {
                table.list.messages {
                    thead { tr {
                        @if selectable {
                            th.tick { input type="checkbox" data-all="id" aria-label=(texts.select_all); }
                        }
                        th { (texts.id) } th { (texts.topic) } th { (texts.state) }
                        th.wide { (texts.payload) " / " (texts.error) }
                        th.number { (texts.attempts) } th.number { (texts.priority) } th.number { (texts.when) }
                    } }
                    tbody {
                        @for message in messages {
                            tr data-key=(message.id) data-href=(self.to(&format!("messages/{}", message.id))) tabindex="-1" {
                                @if selectable {
                                    td.tick { input type="checkbox" name="id" value=(message.id)
                                        aria-label={ (texts.select) " #" (message.id) }; }
                                }
                                td { (self.message_link(message.id)) }
                                td { (self.topic_link(&message.topic)) }
                                td { (self.state(message.state)) }
                                td.wide {
                                    @if self.shared.hide_payloads { span.muted { (texts.hidden) } }
                                    @else { code.cut { (visible(&message.payload)) } }
                                    @if let Some(key) = &message.ordering_key { (self.ordering_key(&message.topic, key)) }
                                    @if let Some(error) = &message.error { div.cut.error { (first_line(error)) } }
                                }
                                td.number { (message.attempts) }
                                td.number { (message.priority) }
                                td.number { (self.when(now, message)) }
                            }
                        }
                    }
                }
            }
        }
    }

    /// Leads to all messages that share it.
    fn ordering_key(&self, topic: &str, key: &str) -> Markup {
        let target = self.to(&format!("messages{}", query(&[("topic", topic), ("ordering", key)])));
        html! { div.cut.key { (self.texts.ordering_key) " " a href=(target) { (visible(key)) } } }
    }

    /// The time that matters most in this state.
    fn when(&self, now: DateTime<Utc>, message: &Summary) -> Markup {
        let at = match message.state {
            State::Done | State::Dead | State::Cancelled => message.finished_at.unwrap_or(message.run_at),
            State::Ready | State::Scheduled | State::Retrying | State::Running => message.run_at,
        };
        format::time(self.texts, now, at)
    }
}
