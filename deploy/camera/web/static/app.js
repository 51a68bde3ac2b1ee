// The page of a slimcam camera. Whatever comes from the camera is text, never markup.

import {drawHistory, drawStages, milliseconds} from "./chart.js";

const POLL_MS = 1000, PEOPLE_MS = 10000, STALE_SECONDS = 3;
const $ = (id) => document.getElementById(id);

let shown = null, newestEvent = 0, peopleAt = 0, snapshot = null, chosen = null, forgetting = null;
let everybody = [], editing = null;
let polling = null, saying = null;

// The camera

async function ask(path, method = "GET", body = undefined) {
  const headers = method === "GET" ? {} : {"X-Slimcam": "1"};
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const response = await fetch(`api/${path}`, {method, headers, body: body && JSON.stringify(body)});
  const answer = response.status === 204 ? null : await response.json();
  if (!response.ok) throw Object.assign(new Error(answer.error), {status: response.status, alike: answer.looks_like ?? null});
  return answer;
}

async function poll() {
  clearTimeout(polling);
  if (document.hidden) return;
  try {
    const state = await ask("state");
    open();
    showState(state);
    $("unknown").hidden = !state.unknown;
    if (Date.now() - peopleAt > PEOPLE_MS) {
      await showPeople();
      if (state.unknown) await showUnknown();
    }
  } catch (error) {
    if (error.status === 401) return logIn();
    showSource(error.status ? error.message : "camera not reached", "lost");
    showStale("The camera does not answer.");
    live(false);
  }
  clearTimeout(polling);
  polling = setTimeout(poll, POLL_MS);
}

function live(on) {
  if (!on) $("live").removeAttribute("src");
  else if (!$("live").hasAttribute("src")) $("live").src = `api/live.mjpg?${Date.now()}`;
}

function open() {
  $("login").hidden = true;
  $("page").hidden = false;
}

function logIn() {
  live(false);
  $("page").hidden = true;
  $("login").hidden = false;
  showSource("log in", "waiting");
  $("token").focus();
}

$("login").addEventListener("submit", async (event) => {
  event.preventDefault();
  $("login-error").textContent = "";
  try {
    await ask("login", "POST", {token: $("token").value});
    $("token").value = "";
    peopleAt = 0;
    await poll();
  } catch (error) {
    $("login-error").textContent = error.message;
  }
});

// What is seen

function showState(state) {
  shown = state;
  const frame = state.frame;
  const fresh = frame !== null && frame.age < STALE_SECONDS;
  const source = state.source_state;
  const lost = source !== null && source.state === "lost";
  showSource(lost ? `lost since ${moment(source.since * 1000)}` : state.source, lost ? "lost" : fresh ? "live" : "waiting");
  live(frame !== null);
  showStale(frame === null ? "Waiting for the first picture." : fresh ? "" : `The picture is ${duration(frame.age)} old.`);
  if (frame !== null) $("live").parentElement.style.aspectRatio = `${frame.width} / ${frame.height}`;
  $("fps").textContent = state.fps.toFixed(1);
  $("age").textContent = frame === null ? "–" : duration(frame.age);
  $("result").textContent = state.stages.result ? `${milliseconds(state.stages.result.p50)} ms` : "–";
  $("lost").textContent = state.lost.toLocaleString();
  showUpdate(state.update);
  showFaces(frame === null ? [] : frame.faces);
  showEvents(state.events);
  drawStages($("stages"), state.stages);
  drawHistory($("history"), state.history, state.window);
}

function showSource(text, state) {
  if ($("source").textContent !== text) $("source").textContent = text;
  $("source").dataset.state = state;
}

function showStale(text) {
  $("stale").textContent = text;
  $("stale").hidden = !text;
}

function showUpdate(update) {
  $("update").hidden = update === null;
  if (update === null) return;
  const parts = [update.release ? `Models: release ${update.release}` : "Models: as installed"];
  if (update.activity === "trial") parts.push(`on trial, ${update.progress ?? 0} %`);
  else if (update.available !== null && update.available !== update.release) parts.push(`release ${update.available} is offered`);
  if (update.activity === "looking") parts.push("looking for a newer one");
  if (update.error) parts.push(update.error);
  setText($("update"), parts.join(" · "));
}

// Cards are kept while their face is, so that they keep the focus.
function showFaces(faces) {
  const kept = new Map([...$("faces").children].map((item) => [item.dataset.track, item]));
  setChildren($("faces"), faces.map((face) => {
    const item = kept.get(String(face.track)) ?? newCard(face.track);
    const [button, name, score, note] = item.parts;
    const known = face.identity !== null && face.identity.person !== null;
    button.className = `face ${face.identity === null ? "" : known ? "known" : "unknown"}`;
    setText(name, called(face.identity) ?? "Looking …");
    setText(score, known ? (face.identity.score ?? 0).toFixed(2) : "");
    setText(note, [`track ${face.track}`, ...face.flaws].join(" · "));
    button.setAttribute("aria-label", `${name.textContent}, track ${face.track}: enroll this face`);
    return item;
  }));
  $("no-faces").hidden = faces.length > 0;
}

function newCard(track) {
  const item = element("li");
  const button = element("button"), name = element("b"), score = element("span", "score"), note = element("small");
  button.type = "button";
  button.append(name, score, note);
  button.addEventListener("click", () => freeze((face) => face.track === track));
  item.dataset.track = track;
  item.parts = [button, name, score, note];
  item.append(button);
  return item;
}

function showEvents(events) {
  if (events.length && events[0].number < newestEvent) { // another camera, or this one again
    newestEvent = 0;
    $("events").replaceChildren();
  }
  const verbs = {appeared: "appeared", recognised: "recognized", unknown: "is unknown", left: "left"};
  for (const event of events.filter((one) => one.number > newestEvent).reverse()) {
    const item = element("li"), time = element("time"), what = element("span"), score = element("span", "score");
    time.textContent = event.time === null ? "" : moment(event.time);
    time.dateTime = event.time ?? "";
    const name = element("b");
    name.textContent = event.name ?? `Face ${event.track}`;
    what.append(name, ` ${verbs[event.kind]}`);
    score.textContent = event.kind === "recognised" && event.score !== null ? event.score.toFixed(2) : "";
    time.dataset.at = event.time ?? "";
    item.append(time, what, score);
    $("events").prepend(item);
    newestEvent = event.number;
  }
  for (const time of $("events").querySelectorAll("time")) if (time.dataset.at) setText(time, moment(time.dataset.at));
  while ($("events").children.length > 100) $("events").lastChild.remove();
  $("no-events").hidden = newestEvent > 0;
}

// Enrolling

// The view is kept still at the click, so that whoever was clicked is enrolled, wherever they walk meanwhile.
async function freeze(wanted) {
  try {
    snapshot = await ask("snapshots", "POST");
  } catch (error) {
    return say(error.message);
  }
  snapshot.faces = snapshot.faces.filter((face) => face.box !== null);
  $("enroll-form").reset();
  $("enroll-error").textContent = "";
  $("alike").replaceChildren();
  $("still").src = `api/snapshots/${snapshot.snapshot}.jpg`;
  $("boxes").replaceChildren(...snapshot.faces.map((face) => {
    const box = element("button", "box");
    box.type = "button";
    box.setAttribute("aria-label", `Choose ${called(face.identity) ?? "face"}, track ${face.track}`);
    [box.style.left, box.style.top, box.style.width, box.style.height] = face.box.map((part) => `${part * 100}%`);
    box.addEventListener("click", () => choose(face));
    return box;
  }));
  choose(snapshot.faces.find(wanted) ?? null);
  $("enroll").showModal();
  (chosen === null ? $("boxes").firstChild ?? $("enroll-cancel") : $("name")).focus();
}

function choose(face) {
  chosen = face;
  for (const [i, box] of [...$("boxes").children].entries()) {
    box.setAttribute("aria-pressed", String(snapshot.faces[i] === face));
  }
  $("enroll-do").disabled = face === null;
  $("hint").textContent = !snapshot.faces.length ? "There is no face in this picture."
    : face === null ? "That face is not in this picture. Choose one in it, or try again."
    : face.flaws.length ? `Not a good view of this face: ${face.flaws.join(", ")}.` : "";
  drawCrop();
}

function drawCrop() {
  const canvas = $("crop"), image = $("still");
  canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
  if (chosen === null || !image.complete || !image.naturalWidth) return;
  const [x, y, width, height] = chosen.box;
  const w = width * image.naturalWidth, h = height * image.naturalHeight, side = Math.max(w, h) * 1.15;
  const left = x * image.naturalWidth + (w - side) / 2, top = y * image.naturalHeight + (h - side) / 2;
  canvas.getContext("2d").drawImage(image, left, top, side, side, 0, 0, canvas.width, canvas.height);
}

$("live").addEventListener("error", () => live(false)); // the next state tries again
$("still").addEventListener("load", drawCrop);
$("freeze").addEventListener("click", () => freeze((face) => face.identity === null || face.identity.person === null));
$("live").addEventListener("click", (event) => {
  const area = $("live").getBoundingClientRect();
  const x = (event.clientX - area.left) / area.width, y = (event.clientY - area.top) / area.height;
  // A little beside the box is still that face: it moves, and fingers are wide.
  freeze(({box: [left, top, width, height]}) =>
    Math.abs(x - left - width / 2) <= 0.7 * width && Math.abs(y - top - height / 2) <= 0.7 * height);
});
$("enroll-cancel").addEventListener("click", () => $("enroll").close());
$("enroll").addEventListener("close", () => {
  $("still").removeAttribute("src");
  snapshot = chosen = null;
});
$("enroll-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  if (chosen === null || $("enroll-do").disabled) return;
  $("enroll-error").textContent = "";
  await enroll("");
});

async function enroll(person) {
  $("enroll-do").disabled = true;
  $("alike").replaceChildren();
  try {
    const enrolled = await ask("people", "POST", {
      snapshot: snapshot.snapshot, track: chosen.track, name: $("name").value, consent: $("consent").value, person,
    });
    $("enroll").close();
    say(`${enrolled.name} is enrolled.`);
    await showPeople();
  } catch (error) {
    $("enroll-error").textContent = error.message;
    if (error.alike) askWho($("alike"), error.alike, enroll);
  } finally {
    $("enroll-do").disabled = false;
  }
}

// Buttons for whom a face looks like, and one for somebody else.
function askWho(place, people, enrollAs) {
  const buttons = people.map((person) => choice(`Add to ${person.name}`, () => enrollAs(person.id)));
  place.replaceChildren(...buttons, choice("Somebody else", () => enrollAs("new")));
  buttons[0].focus();
}

function choice(text, act) {
  const button = element("button", "quiet");
  button.type = "button";
  button.textContent = text;
  button.addEventListener("click", act);
  return button;
}

// Who was that?

let group = null;

async function showUnknown() {
  let groups;
  try {
    ({groups} = await ask("unknown"));
  } catch (error) {
    return say(`Unknown faces: ${error.message}`);
  }
  const listed = JSON.stringify(groups);
  if ($("groups").listed === listed) return;
  $("groups").listed = listed;
  $("groups").replaceChildren(...groups.map(({faces}) => {
    const item = element("li"), seen = element("small"), buttons = element("div", "acts");
    const times = faces.length === 1 ? "once" : `${faces.length} times`;
    seen.textContent = `seen ${times}, last ${moment(faces[0].at * 1000)}`;
    buttons.append(choice("Name", () => nameGroup(faces)), choice("Delete", () => removeGroup(faces)));
    item.append(crops(faces.slice(0, 6)), seen, buttons);
    return item;
  }));
  $("no-groups").hidden = groups.length > 0;
}

function crops(faces) {
  const row = element("div", "crops");
  row.append(...faces.map((face) => Object.assign(document.createElement("img"), {
    src: `api/unknown/${face.id}.png`, alt: `An unknown face, ${moment(face.at * 1000)}`, width: 72, height: 72,
  })));
  return row;
}

function nameGroup(faces) {
  group = faces;
  $("naming-form").reset();
  $("naming-error").textContent = "";
  $("naming-alike").replaceChildren();
  $("naming-faces").replaceChildren(crops(faces.slice(0, 12)));
  $("naming-label").textContent = everybody.length ? "Or somebody new: name" : "Name";
  $("naming-people").replaceChildren(...everybody.map((person) => choice(`Add to ${person.name}`, () => {
    $("naming-consent").value = person.consent;
    $("naming-name").value = person.name;
    nameAs(person.id);
  })));
  $("naming").showModal();
  $("naming-name").focus();
}

async function nameAs(person) {
  $("naming-do").disabled = true;
  $("naming-alike").replaceChildren();
  $("naming-error").textContent = "";
  try {
    const enrolled = await ask("unknown", "POST", {
      faces: group.slice(0, 100).map((face) => face.id), name: $("naming-name").value,
      consent: $("naming-consent").value, person,
    });
    $("naming").close();
    say(`${enrolled.name} is enrolled.`);
    await Promise.all([showPeople(), showUnknown()]);
  } catch (error) {
    $("naming-error").textContent = error.message;
    if (error.alike) askWho($("naming-alike"), error.alike, nameAs);
  } finally {
    $("naming-do").disabled = false;
  }
}

async function removeGroup(faces) {
  try {
    for (const face of faces) await ask(`unknown/${face.id}`, "DELETE");
    say(faces.length === 1 ? "The face is deleted." : "The faces are deleted.");
  } catch (error) {
    say(error.message);
  }
  await showUnknown();
}

$("naming-cancel").addEventListener("click", () => $("naming").close());
$("naming-form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!$("naming-do").disabled) nameAs("");
});

// People

async function showPeople() {
  peopleAt = Date.now();
  let people;
  try {
    ({people} = await ask("people"));
  } catch (error) {
    return say(`People: ${error.message}`);
  }
  everybody = people;
  const listed = JSON.stringify(people);
  if ($("people").listed === listed) return;
  $("people").listed = listed;
  $("people").replaceChildren(...people.map((person) => {
    const item = element("li"), text = element("div"), name = element("b"), note = element("small");
    const consent = element("small", "consent"), button = element("button", "quiet");
    name.textContent = person.name;
    note.textContent = [`${person.templates} template${person.templates === 1 ? "" : "s"}`,
      `since ${day(person.created)}`, person.expires === null ? "" : `until ${day(person.expires)}`]
      .filter((part) => part).join(" · ");
    consent.textContent = `Consent: ${person.consent}`;
    button.textContent = "Forget";
    button.setAttribute("aria-label", `Forget ${person.name}`);
    button.addEventListener("click", () => confirmForget(person));
    const acts = element("div", "acts"), correct = choice("Correct", () => edit(person));
    correct.setAttribute("aria-label", `Correct ${person.name}`);
    acts.append(correct, button);
    text.append(name, note, consent);
    item.append(text, acts);
    return item;
  }));
  $("no-people").hidden = people.length > 0;
}

function confirmForget(person) {
  forgetting = person;
  $("forget-name").textContent = person.name;
  $("forget-error").textContent = "";
  $("forget").showModal();
  $("forget-cancel").focus();
}

$("forget-cancel").addEventListener("click", () => $("forget").close());
$("forget-do").addEventListener("click", async () => {
  const person = forgetting;
  $("forget-do").disabled = true;
  try {
    await ask(`people/${encodeURIComponent(person.id)}`, "DELETE");
    $("forget").close();
    say(`${person.name} is forgotten.`);
    await showPeople();
  } catch (error) {
    $("forget-error").textContent = error.message;
  } finally {
    $("forget-do").disabled = false;
  }
});

// Correcting

async function edit(person) {
  editing = person;
  $("edit-who").textContent = person.name;
  $("edit-name").value = person.name;
  $("edit-expires").value = person.expires === null ? "" : isoDay(person.expires);
  $("edit-error").textContent = "";
  $("edit-into").replaceChildren(new Option("nobody else", ""),
    ...everybody.filter((one) => one.id !== person.id).map((one) => new Option(`${one.name} (${one.templates})`, one.id)));
  await showTemplates();
  if (!$("edit").open) $("edit").showModal();
  $("edit-name").focus();
}

async function showTemplates() {
  let templates = [];
  try {
    ({templates} = await ask(`people/${encodeURIComponent(editing.id)}/templates`));
  } catch (error) {
    $("edit-error").textContent = error.message;
  }
  $("edit-templates").replaceChildren(...templates.map((source, i) => {
    const item = element("li"), text = element("span"), remove = choice("Remove", async () => {
      try {
        await ask(`people/${encodeURIComponent(editing.id)}/templates/${i + 1}`, "DELETE");
        await Promise.all([showTemplates(), showPeople()]);
      } catch (error) {
        $("edit-error").textContent = error.message;
      }
    });
    text.textContent = source;
    remove.setAttribute("aria-label", `Remove template ${i + 1}`);
    item.append(text, remove);
    return item;
  }));
}

$("edit-cancel").addEventListener("click", () => $("edit").close());
$("edit-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const path = `people/${encodeURIComponent(editing.id)}`, name = $("edit-name").value;
  const expires = $("edit-expires").value, into = $("edit-into").value, changes = {};
  if (name !== editing.name) changes.name = name;
  if (expires !== (editing.expires === null ? "" : isoDay(editing.expires))) {
    changes.expires = expires ? new Date(`${expires}T00:00`).getTime() / 1000 : null;
  }
  $("edit-do").disabled = true;
  try {
    let person = editing;
    if (Object.keys(changes).length) person = await ask(path, "PATCH", changes);
    if (into) person = await ask(`${path}/merge`, "POST", {into});
    $("edit").close();
    say(into ? `Both are ${person.name} now.` : `${person.name} is corrected.`);
    await showPeople();
  } catch (error) {
    $("edit-error").textContent = error.message;
  } finally {
    $("edit-do").disabled = false;
  }
});

function isoDay(seconds) {
  const at = new Date(seconds * 1000);
  return [at.getFullYear(), at.getMonth() + 1, at.getDate()].map((part) => String(part).padStart(2, "0")).join("-");
}

// Words

function called(identity) {
  return identity === null ? null : identity.person === null ? "Unknown" : identity.name || "No name";
}

function duration(seconds) {
  return seconds < 1 ? `${Math.round(seconds * 1000)} ms` : seconds < 100 ? `${seconds.toFixed(1)} s`
    : `${Math.round(seconds / 60)} min`;
}

function day(seconds) {
  return new Date(seconds * 1000).toLocaleDateString();
}

// Of a browser's day the time is enough; of another one it is not.
function moment(time) {
  const at = new Date(time);
  return at.toDateString() === new Date().toDateString() ? at.toLocaleTimeString()
    : at.toLocaleString(undefined, {dateStyle: "short", timeStyle: "medium"});
}

function say(text) {
  $("said").textContent = text;
  clearTimeout(saying);
  saying = setTimeout(() => { $("said").textContent = ""; }, 5000);
}

function element(tag, name = "") {
  return Object.assign(document.createElement(tag), {className: name});
}

function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function setChildren(parent, items) {
  if (items.length === parent.children.length && items.every((item, i) => item === parent.children[i])) return;
  const focused = document.activeElement;
  parent.replaceChildren(...items);
  if (parent.contains(focused)) focused.focus();
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) live(false); // no picture is drawn for nobody
  else poll();
});
window.addEventListener("resize", () => shown && drawHistory($("history"), shown.history, shown.window));
poll();
