// A seal report as a document: for each lock what is not known, and a table of its openings, closings and alarms.

import { h } from "./dom.js";
import { dated, exact, moment, place, words } from "./format.js";

const WHAT = {
  opened: "Opened",
  closed: "Closed",
  refused: "Refused",
  moved: "Moved",
  command: "Command",
  gap: "No record",
};
const COLUMNS = ["Time", "What", "By whom, how", "Where", "Remarks"];

/** The document of a report; `config` has the name of the gateway. */
export function reportDocument(report, config) {
  const { locks, group } = report;
  return h(
    "article",
    { class: "report" },
    h(
      "header",
      { class: "report-head" },
      h("h2", {}, "Seal report", group ? ` of the group ${group}` : locks.length ? ` of ${title(locks[0])}` : ""),
      h("p", {}, `From ${dated(moment(report.begin))} to ${dated(moment(report.end))}`, h("br"), [
        `Made ${dated(moment(report.made_at))}`,
        report.made_for ? ` for ${report.made_for}` : "",
        ` by ${config.gateway}. Times are those of ${zoneName()}, with their offset from UTC.`,
      ]),
      group ? h("p", {}, overview(locks)) : null,
    ),
    report.partitions_away.length
      ? h("p", { class: "report-unknown" }, "Locks are missing: a part of the store can't be reached now.")
      : null,
    locks.map((lock) => lockSection(lock, Boolean(group))),
    h("p", { class: "report-foot" }, footnote(report.gap_s)),
  );
}

/** The name of this computer's time zone. */
function zoneName() {
  const name = Intl.DateTimeFormat().resolvedOptions().timeZone;
  return name && name !== "UTC" ? `the zone ${name}` : "this computer's zone";
}

function title({ device, label }) {
  return label.name ? `${label.name} (${device})` : device;
}

function overview(locks) {
  const sum = (name) => locks.reduce((total, { counts }) => total + counts[name], 0);
  const open = locks.filter((lock) => lock.state_at_end === "open").length;
  const lacking = locks.filter((lock) => lock.not_known.length).length;
  return [
    `${number(locks.length, "lock")}: ${number(sum("opened"), "opening")}, ${number(sum("closed"), "closing")}, `,
    `${number(sum("alarms"), "alarm")}; ${open} open at the end; `,
    `of ${lacking} not everything is known.`,
  ].join("");
}

function number(count, name) {
  return `${count} ${name}${count === 1 ? "" : "s"}`;
}

function footnote(gap) {
  return (
    "A time is that of the lock, corrected by the skew of its clock. A gap is a span of at least " +
    `${duration(gap)} of which neither a position nor an opening, closing or alarm is known. ` +
    "The name behind a command is the one that its sender gave."
  );
}

function lockSection(lock, named) {
  const { label, counts, entries } = lock;
  const more = [label.plate, label.group && !named ? `group ${label.group}` : "", label.note].filter(Boolean);
  return h(
    "section",
    { class: "report-lock" },
    h("h3", {}, h("a", { href: `#/device/${encodeURIComponent(lock.device)}` }, title(lock))),
    more.length ? h("p", {}, more.join(" · ")) : null,
    h("p", {}, summary(lock)),
    lock.not_known.length
      ? h(
          "div",
          { class: "report-unknown" },
          h("strong", {}, "Not known"),
          h(
            "ul",
            {},
            lock.not_known.map((one) => h("li", {}, sentence(one.text), spanText(one))),
          ),
        )
      : null,
    entries.length
      ? table(lock)
      : h("p", {}, lock.not_known.length ? "No entries are known." : "No opening, closing or alarm."),
    lock.earlier
      ? h("p", {}, `${number(lock.earlier, "report")} came in this period about something that happened before it.`)
      : null,
    counts.opened > 1 && counts.open_seconds
      ? h("p", {}, `Open for ${duration(counts.open_seconds)} in all.`)
      : null,
  );
}

function summary({ counts, state_at_begin: before, state_at_end: after, last_heard: heard }) {
  const parts = [number(counts.opened, "opening"), number(counts.closed, "closing")];
  if (counts.refused) parts.push(number(counts.refused, "refused attempt"));
  parts.push(number(counts.alarms, "alarm"));
  if (counts.commands) parts.push(`${number(counts.commands, "command")} without a known movement`);
  if (counts.gaps) parts.push(number(counts.gaps, "gap"));
  const states = `State at the beginning: ${before ?? "not known"}; at the end: ${after ?? "not known"}.`;
  return `${parts.join(", ")}. ${states} Last heard ${heard ? dated(moment(heard)) : "never"}.`;
}

const sentence = (text) => `${text[0].toUpperCase()}${text.slice(1)}`;

function spanText({ begin, end }) {
  if (!begin) return ".";
  const at = (value) => h("span", { class: "report-time" }, dated(moment(value)));
  return end ? [": ", at(begin), " to ", at(end), "."] : [": from ", at(begin), "."];
}

function table(lock) {
  return h(
    "div",
    { class: "scroll", tabindex: 0, role: "region", "aria-label": `Entries of ${title(lock)}` },
    h(
      "table",
      { class: "plain report-table" },
      h("thead", {}, h("tr", {}, COLUMNS.map((text) => h("th", { scope: "col" }, text)))),
      h("tbody", {}, lock.entries.map(row)),
    ),
  );
}

function row(entry) {
  const at = moment(entry.at);
  return h(
    "tr",
    { class: `report-${entry.kind}` },
    h("td", {}, h("time", { datetime: entry.at, title: exact(at) }, dated(at)), late(entry)),
    h("td", {}, h("strong", {}, what(entry)), entry.sublock ? h("small", {}, ` sub-lock ${entry.sublock}`) : null),
    h("td", {}, entry.by ?? "", command(entry.command)),
    h("td", {}, where(entry.place)),
    h("td", {}, remarks(entry).map((text) => h("div", {}, text))),
  );
}

function what(entry) {
  if (entry.kind === "alarm") return `Alarm: ${words(entry.alarm)}`;
  if (entry.kind === "alarm_cleared") return `Alarm ended: ${words(entry.alarm)}`;
  if (entry.kind === "command") return `Command ${words(entry.command.state ?? "")}`;
  return WHAT[entry.kind] ?? words(entry.kind);
}

function late({ delay_s: delay, received_at: received, stored }) {
  const memory = stored ? ", from the lock's memory" : "";
  if (delay !== null) return h("small", {}, h("br"), `known ${duration(delay)} later, ${dated(moment(received))}${memory}`);
  return stored ? h("small", {}, h("br"), "from the lock's memory") : null;
}

function command(given) {
  if (!given) return null;
  const facts = [
    `${words(given.command ?? "command")} ${given.id}`,
    given.state ? words(given.state) : "",
    given.key ? `signed with key ${given.key}` : "",
    given.reason ?? "",
    evidence(given.evidence),
  ];
  return h("small", {}, h("br"), facts.filter(Boolean).join(", "));
}

function evidence(shown) {
  if (!shown) return "";
  if (shown.kind === "lock") return `shown by a lock event: ${shown.action} by ${words(shown.method ?? "")}`;
  return `shown by its state: ${shown.previous} before, then ${shown.lock_state}`;
}

function where(found) {
  if (!found) return "—";
  const text = place(found.latitude, found.longitude);
  return found.age_s < 1 ? text : [text, h("small", {}, h("br"), `${duration(found.age_s)} before`)];
}

function remarks(entry) {
  const found = entry.remarks.map(sentence);
  if (entry.seconds === null) return found;
  const until = entry.until ? ` to ${dated(moment(entry.until))}` : "";
  const text = entry.kind === "opened" ? `Open for ${duration(entry.seconds)}` : `${duration(entry.seconds)}${until}`;
  return [text, ...found];
}

/** A duration in its two largest units: "2 h 5 min". */
export function duration(seconds) {
  const whole = Math.floor(seconds);
  const [days, hours] = [Math.floor(whole / 86400), Math.floor(whole / 3600) % 24];
  const minutes = Math.floor(whole / 60) % 60;
  if (days) return hours ? `${days} d ${hours} h` : `${days} d`;
  if (hours) return minutes ? `${hours} h ${minutes} min` : `${hours} h`;
  if (minutes) return whole % 60 ? `${minutes} min ${whole % 60} s` : `${minutes} min`;
  return `${whole} s`;
}
