//! A producer that goes on until it is killed.

use taskmq_chaos::producer;

fn main() {
    producer::main();
}
