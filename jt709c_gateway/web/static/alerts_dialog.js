// The button and the dialog where a user switches alerts on.

import { h } from "./dom.js";

/** The button of a view, which shows whether alerts are on; `close()` removes its dialog. */
export class AlertsButton {
  constructor(alerts) {
    this.alerts = alerts;
    this.sound = checkbox("alerts-sound", (on) => alerts.setSound(on));
    this.notify = checkbox("alerts-notify", (on) => alerts.setNotify(on));
    this.problem = h("p", { class: "problem", role: "status" });
    this.test = h("button", { type: "button", class: "button", on: { click: () => alerts.test() } }, "Test");
    this.dialog = h(
      "dialog",
      { class: "alerts-dialog", "aria-labelledby": "alerts-title" },
      h("h2", { id: "alerts-title" }, "Alerts"),
      h(
        "p",
        {},
        "When a lock begins to need attention while this page is open, also in a tab that is out of sight. " +
          "Each reason is told once, until it has cleared.",
      ),
      h("p", {}, h("label", {}, this.sound, " Play a sound")),
      h("p", {}, h("label", {}, this.notify, " Show a notification of the browser")),
      this.problem,
      h(
        "form",
        { method: "dialog", class: "buttons" },
        this.test,
        h("button", { class: "button", type: "submit" }, "Close"),
      ),
    );
    this.element = h("button", {
      type: "button",
      class: "button small",
      "aria-haspopup": "dialog",
      "data-alerts": true,
      on: { click: () => this.dialog.showModal() },
    });
    this.draw = () => this.#draw();
    alerts.addEventListener("change", this.draw);
    document.body.append(this.dialog);
    this.#draw();
  }

  /** Remove the dialog. */
  close() {
    this.alerts.removeEventListener("change", this.draw);
    this.dialog.remove();
  }

  #draw() {
    const { alerts } = this;
    this.sound.checked = alerts.sound;
    this.notify.checked = alerts.notify;
    this.test.disabled = !alerts.on;
    if (this.problem.textContent !== alerts.problem) this.problem.textContent = alerts.problem;
    this.element.textContent = `Alerts: ${alerts.blocked ? "blocked" : alerts.on ? "on" : "off"}`;
    this.element.classList.toggle("blocked", alerts.blocked);
  }
}

function checkbox(id, change) {
  return h("input", { type: "checkbox", id, on: { change: (event) => change(event.target.checked) } });
}
