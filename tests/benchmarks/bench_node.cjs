// What the TypeScript SDK does: `fetch`, eventsource-parser, `JSON.parse` and a function call.
//
//     node bench_node.cjs URL [URL...]
//
// reads one stream after the other, and prints for each how many events it saw and in how many
// milliseconds.
"use strict";

const { createParser } = require("eventsource-parser");

async function follow(url) {
  const touch = { calls: 0, last: undefined };
  let lastEventId = "";
  let completed = false;
  const callback = (data) => {
    touch.last = [data.step, data.loss];
    touch.calls += 1;
  };
  const parser = createParser({
    onEvent(event) {
      if (completed || event.event === "ping" || event.event === "end") return;
      const data = JSON.parse(event.data);
      if (event.id) lastEventId = event.id;
      if (data.type === "training.log") callback(data);
      else completed = true;
    },
  });
  const response = await fetch(url, { headers: { Accept: "text/event-stream" } });
  const decoder = new TextDecoder();
  for await (const chunk of response.body) parser.feed(decoder.decode(chunk, { stream: true }));
  if (!completed || lastEventId !== "end") throw new Error(`cut after ${lastEventId}`);
  return touch.calls;
}

async function main() {
  for (const url of process.argv.slice(2)) {
    const begin = performance.now();
    const events = await follow(url);
    console.log(JSON.stringify({ events, milliseconds: performance.now() - begin }));
  }
}

main();
