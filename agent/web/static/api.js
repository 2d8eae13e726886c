// The JSON API, and commands as over MQTT.

import { send } from "./common/request.js";

export { Refused, act, get, send } from "./common/request.js";

export function operator() {
  return document.getElementById("operator").value.trim();
}

// A command, as over MQTT: a transaction of its own, and who asks.
export async function command(name, machine, fields = {}) {
  const noise = crypto.getRandomValues(new Uint32Array(3));
  const transaction = `web-${Array.from(noise, (part) => part.toString(16)).join("")}`;
  return send(`commands/${name}`, { transaction, machine, operator: operator(), ...fields });
}
