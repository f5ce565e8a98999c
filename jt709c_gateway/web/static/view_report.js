// The seal report of a lock or a group, to read and to print.

import { apiUrl, errorText, get } from "./api.js";
import { h, setChildren } from "./dom.js";
import { zone } from "./format.js";
import { GAPS, PERIODS, fieldTime, fromQuery, span, toQuery } from "./report_period.js";
import { duration, reportDocument } from "./report_table.js";

/** Open the view. `query` has the choice, `storeQuery` stores it in the URL. */
export function open({ config, labels, query, storeQuery }) {
  let chosen = fromQuery(query);
  let loading = null;
  const form = new Form(chosen, () => choose(form.chosen()));
  const result = h("div", { class: "report-result" });
  const status = h("p", { class: "empty", role: "status" });
  const problem = h("p", { class: "problem", role: "alert", hidden: true });
  const print = h(
    "button",
    { type: "button", class: "button", disabled: true, on: { click: () => window.print() } },
    "Print",
  );
  const file = h("a", { class: "button", hidden: true, download: "" }, "CSV");
  const element = h(
    "div",
    { class: "view view-report" },
    h("h1", { class: "report-title", tabindex: -1 }, "Seal report"),
    form.element,
    h("p", { class: "report-actions" }, print, " ", file),
    problem,
    status,
    result,
  );

  const choose = async (next) => {
    // A lock may be named by what it is called.
    if (next.device) await labels.load();
    chosen = { ...next, device: labels.resolve(next.device) };
    storeQuery(toQuery(chosen));
    form.show(chosen);
    load();
  };
  const offer = () => form.offer(labels.groups);
  labels.addEventListener("change", offer);
  const fail = (text) => {
    problem.textContent = text;
    problem.hidden = !text;
  };
  const load = async () => {
    loading?.abort();
    status.hidden = false;
    setChildren(result);
    fail("");
    print.disabled = file.hidden = true;
    const period = span(chosen);
    if (!chosen.device && !chosen.group) {
      status.textContent = "Enter a lock, or a group of locks.";
      return;
    }
    if (!period) {
      status.textContent = "The beginning of the period must be before its end.";
      return;
    }
    const abort = (loading = new AbortController());
    const asked = {
      device: chosen.device,
      group: chosen.group,
      from: new Date(period[0]).toISOString(),
      to: new Date(period[1]).toISOString(),
      gap: chosen.gap,
    };
    status.textContent = "The report is being made…";
    file.href = apiUrl("report", { ...asked, format: "csv" }).href;
    try {
      const report = await get("report", asked, abort.signal);
      setChildren(result, reportDocument(report, config));
      print.disabled = file.hidden = false;
    } catch (error) {
      if (abort.signal.aborted) return;
      fail(unknown(error, chosen) ?? errorText(error));
      // What is too large for the page may be had as a file.
      file.hidden = !(error.status === 400 && error.field === "from");
    }
    status.textContent = "";
    status.hidden = true;
  };
  return {
    element,
    title: "Seal report",
    subscription: { devices: 1, kind: ["session"] },
    connected: (restarted) => labels.load(restarted),
    opened: () => {
      if (!chosen.device && !chosen.group) form.focus();
      offer();
      load();
    },
    chosen: (next) => {
      chosen = fromQuery(next);
      form.show(chosen);
      load();
    },
    close: () => {
      labels.removeEventListener("change", offer);
      loading?.abort();
    },
  };
}

/** The sentence about a lock or a group that is not known; null for another error. */
function unknown(error, { device, group }) {
  if (error.status === 404) return device ? `Nothing is known of ${device}.` : `No lock is in a group ${group}.`;
  const named = error.status === 400 && error.field === "device";
  return named ? `No lock is called ${device}, or several are. Its id or IMEI is certain.` : null;
}

/** The fields of the choice; `submit` is called when they are to be used. */
class Form {
  constructor(chosen, submit) {
    this.device = input({ id: "report-device", "data-search": true });
    this.groups = h("datalist", { id: "report-groups" });
    this.group = input({ id: "report-group", list: "report-groups" });
    this.period = h(
      "select",
      { id: "report-period", on: { change: () => this.#periodChanged() } },
      Object.entries(PERIODS).map(([value, text]) => h("option", { value }, text)),
    );
    this.from = h("input", { type: "datetime-local", id: "report-from" });
    this.to = h("input", { type: "datetime-local", id: "report-to" });
    this.gap = h(
      "select",
      { id: "report-gap" },
      GAPS.map((value) => h("option", { value }, duration(value))),
    );
    this.times = [labelled(`From (${zone(Date.now())})`, this.from), labelled("To", this.to)];
    // One of the two counts: the last one that was written into.
    this.device.addEventListener("input", () => (this.group.value = ""));
    this.group.addEventListener("input", () => (this.device.value = ""));
    this.element = h(
      "form",
      {
        class: "report-form",
        "aria-label": "Which report",
        on: {
          submit: (event) => {
            event.preventDefault();
            submit();
          },
        },
      },
      labelled("Lock: name, id or IMEI", this.device),
      labelled("or group", this.group),
      labelled("Period", this.period),
      this.times,
      labelled("Gaps from", this.gap),
      h("button", { type: "submit", class: "button primary" }, "Show"),
      this.groups,
    );
    this.show(chosen);
  }

  /** Show a choice. */
  show(chosen) {
    for (const name of ["device", "group", "period", "from", "to"]) this[name].value = chosen[name];
    this.gap.value = String(chosen.gap);
    this.#showTimes();
  }

  /** Offer groups to choose from. */
  offer(groups) {
    setChildren(
      this.groups,
      groups.map((value) => h("option", { value })),
    );
  }

  /** The choice in the fields. */
  chosen() {
    const [device, group] = [this.device.value.trim(), this.group.value.trim()];
    const [period, from, to] = [this.period.value, this.from.value, this.to.value];
    return { device, group: device ? "" : group, period, from, to, gap: Number(this.gap.value) };
  }

  focus() {
    this.device.focus();
  }

  #periodChanged() {
    if (this.period.value === "custom" && !this.from.value) {
      const [begin, end] = span({ period: "yesterday" });
      [this.from.value, this.to.value] = [fieldTime(begin), fieldTime(end)];
    }
    this.#showTimes();
  }

  #showTimes() {
    for (const one of this.times) one.hidden = this.period.value !== "custom";
  }
}

function input(more) {
  return h("input", { type: "text", autocomplete: "off", spellcheck: "false", ...more });
}

function labelled(text, field) {
  return h("label", { class: "report-field" }, h("span", {}, text), field);
}
