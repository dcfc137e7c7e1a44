use taskmq_bench_contestant::{Payload, begin, end, handle};
use taskmq_core::{Consumer, task_consumer};

/// A consumer for each topic, in the topics' order.
pub(super) fn all(asynchronous: bool) -> Vec<Consumer> {
    if asynchronous { vec![handle_async::consumer()] } else { of_topics() }
}

/// A worker has either this or the synchronous one of the same topic.
#[task_consumer(topic = "bench-00")]
async fn handle_async(payload: Payload) {
    let takes = begin(&payload);
    if !takes.is_zero() {
        tokio::time::sleep(takes).await;
    }
    end();
}

macro_rules! consumers {
    ($($name:ident $topic:tt),* $(,)?) => {
        $(
            #[task_consumer(topic = $topic)]
            fn $name(payload: Payload) {
                handle(&payload);
            }
        )*

        fn of_topics() -> Vec<Consumer> {
            vec![$($name::consumer()),*]
        }
    };
}

#[rustfmt::skip]
consumers! {
    t00 "bench-00", t01 "bench-01", t02 "bench-02", t03 "bench-03",
    t04 "bench-04", t05 "bench-05", t06 "bench-06", t07 "bench-07",
    t08 "bench-08", t09 "bench-09", t10 "bench-10", t11 "bench-11",
    t12 "bench-12", t13 "bench-13", t14 "bench-14", t15 "bench-15",
    t16 "bench-16", t17 "bench-17", t18 "bench-18", t19 "bench-19",
    t20 "bench-20", t21 "bench-21", t22 "bench-22", t23 "bench-23",
    t24 "bench-24", t25 "bench-25", t26 "bench-26", t27 "bench-27",
    t28 "bench-28", t29 "bench-29", t30 "bench-30", t31 "bench-31",
    t32 "bench-32", t33 "bench-33", t34 "bench-34", t35 "bench-35",
    t36 "bench-36", t37 "bench-37", t38 "bench-38", t39 "bench-39",
    t40 "bench-40", t41 "bench-41", t42 "bench-42", t43 "bench-43",
    t44 "bench-44", t45 "bench-45", t46 "bench-46", t47 "bench-47",
    t48 "bench-48", t49 "bench-49",
}
