// Graphile Worker in the benchmark; bench/README.md describes the protocol.
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";
import { Logger, makeWorkerUtils, run, runMigrations } from "graphile-worker";
import pg from "pg";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    batch: { type: "string", default: "5000" },
    bytes: { type: "string", default: "0" },
    ms: { type: "string", default: "0" },
    topics: { type: "string", default: "1" },
    connections: { type: "string", default: "1" },
    concurrency: { type: "string", default: "24" },
    async: { type: "boolean" },
    prompt: { type: "boolean" },
  },
});
const connectionString = process.env.DATABASE_URL;
const logger = new Logger(() => () => {});
const answer = (value) => process.stdout.write(`= ${JSON.stringify(value)}\n`);
const topic = (n) => `bench-${String(n % Number(values.topics)).padStart(2, "0")}`;
const micros = () => Math.round((performance.timeOrigin + performance.now()) * 1000);
const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function producer() {
  const pool = new pg.Pool({ connectionString, max: 1 });
  const utils = await makeWorkerUtils({ pgPool: pool, logger });
  await pool.query("SELECT 1");
  return utils;
}

async function produce(number) {
  const utils = await producer();
  const batch = Number(values.batch);
  const pad = "x".repeat(Number(values.bytes));
  let millis = 0;
  for (let first = 0; first < number; first += batch) {
    const jobs = Array.from({ length: Math.min(batch, number - first) }, (_, i) => {
      const payload = { n: first + i };
      if (values.ms !== "0") payload.ms = Number(values.ms);
      if (pad) payload.pad = pad;
      return { identifier: topic(first + i), payload };
    });
    const begin = performance.now();
    await utils.addJobs(jobs);
    millis += performance.now() - begin;
  }
  answer({ seconds: millis / 1000 });
}

async function single(number) {
  const connections = Number(values.connections);
  const producers = await Promise.all(Array.from({ length: connections }, producer));
  const begin = performance.now();
  await Promise.all(
    producers.map(async (utils) => {
      for (let n = 0; n < Math.floor(number / connections); n++) await utils.addJob(topic(0), { n });
    }),
  );
  answer({ seconds: (performance.now() - begin) / 1000 });
}

async function paced(rate, seconds) {
  const utils = await producer();
  await utils.addJob(topic(0), { n: 0 });
  const calls = [];
  for (let n = 0; n < rate * seconds; n++) {
    await wait(Math.max(0, 1000 / rate - (calls.at(-1) ?? 0) / 1000));
    const begin = performance.now();
    await utils.addJob(topic(0), { n, at: micros() });
    calls.push(Math.round((performance.now() - begin) * 1000));
  }
  answer(calls);
}

async function feed() {
  const utils = await producer();
  for await (const line of createInterface({ input: process.stdin })) {
    const number = Number(line);
    await utils.addJobs(Array.from({ length: number }, (_, n) => ({ identifier: topic(0), payload: { n } })));
    answer(number);
  }
}

async function work() {
  let handled = 0;
  let first = 0;
  let latencies = [];
  const handler = async (payload) => {
    if (first === 0) first = micros();
    if (payload.at) latencies.push(Math.max(0, micros() - payload.at));
    if (payload.ms) await wait(payload.ms);
    handled++;
  };
  const concurrentJobs = Number(values.concurrency);
  const preset = {
    worker: {
      connectionString,
      concurrentJobs,
      maxPoolSize: concurrentJobs + 2,
      completeJobBatchDelay: 0,
      failJobBatchDelay: 0,
      logger,
      ...(values.prompt ? {} : { localQueue: { size: 500, refetchDelay: { durationMs: 10 } } }),
    },
  };
  const taskList = Object.fromEntries(
    Array.from({ length: Number(values.topics) }, (_, n) => [topic(n), handler]),
  );
  await run({ preset, taskList, noHandleSignals: true });
  for await (const line of createInterface({ input: process.stdin })) {
    const [question, ...words] = line.split(" ");
    if (question === "count") answer({ handled, first });
    else if (question === "latencies") answer(latencies.splice(0));
    else if (question === "paced") await paced(Number(words[0]), Number(words[1]));
    else throw new Error(`${line} is no question of the benchmark`);
  }
}

const [command, ...rest] = positionals;
const numbers = rest.map(Number);
const commands = {
  prepare: () => runMigrations({ connectionString, logger }),
  produce,
  single,
  paced,
  feed,
  work,
};
await commands[command](...numbers);
process.exit(0);
