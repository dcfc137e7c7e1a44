use taskmq_core::task_consumer;

struct App;

impl App {
    #[task_consumer(topic = "yace")]
    fn play(&self, _n: u32) {}
}

fn main() {}
