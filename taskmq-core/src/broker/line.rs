//! The SQL of what waits for the turn of its ordering key, which is the same on the three databases but for times and the order
//! that their index has.

/// The methods of [`Administration`](super::Administration) that list it.
macro_rules! lines {
    (
        $db:ty, micros: $micros:ident, time: $time:ty = $at:path,
        from: $from:literal, next_lanes: $next_lanes:literal, order: $order:literal $(,)?
    ) => {
        fn in_its_lane_behind(&mut self, last: &InLine, limit: i64) -> Result<Vec<InLine>> {
            lines!(
                @load self, $db, $micros, $from, $order, limit,
                "worker_id = ? AND topic = ? AND priority = ? AND run_at >= ? AND (run_at > ? OR id > ?)",
                BigInt = last.line,
                Text = &last.lane.topic,
                SmallInt = last.lane.priority,
                $time = $at(last.place.at),
                $time = $at(last.place.at),
                BigInt = last.place.id,
            )
        }

        fn in_its_line_behind(&mut self, last: &InLine, limit: i64) -> Result<Vec<InLine>> {
            lines!(
                @load self, $db, $micros, $from, $order, limit,
                concat!("worker_id = ? AND topic = ? AND ", $next_lanes),
                BigInt = last.line,
                Text = &last.lane.topic,
                SmallInt = last.lane.priority,
            )
        }

        fn in_lines_behind(&mut self, line: i64, limit: i64) -> Result<Vec<InLine>> {
            lines!(@load self, $db, $micros, $from, $order, limit, "worker_id > ?", BigInt = line)
        }
    };
    (
        @load $conn:expr, $db:ty, $micros:ident, $from:literal, $order:literal, $limit:expr, $behind:expr,
        $($ty:ty = $value:expr),+ $(,)?
    ) => {{
        let found = load!(
            $conn, $db => rows::LineSql,
            concat!("SELECT worker_id, topic, priority, ", $micros!("run_at"), ", id FROM ", $from,
                " WHERE worker_id < -2 AND ", $behind, " ORDER BY ", $order, " LIMIT ?"),
            $($ty = $value,)+
            BigInt = $limit,
        )?;
        Ok(found.into_iter().map(rows::in_line).collect())
    }};
}
pub(super) use lines;
