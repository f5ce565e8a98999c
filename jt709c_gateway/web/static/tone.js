// The sound of an alert: two short tones, made by the browser.

/** Hz of the tones, their length in seconds, and their volume. */
const TONES = [880, 660];
const LENGTH = 0.18;
const VOLUME = 0.25;

/** `changed()` is called when the browser begins or ceases to refuse. `played` counts the alerts. */
export class Tone {
  played = 0;
  #context = null;
  #refused = "";

  constructor(changed) {
    this.changed = changed;
  }

  /** Why the browser plays nothing, in a sentence, or "". */
  get problem() {
    if (this.#refused) return this.#refused;
    return this.#context && this.#context.state !== "running"
      ? "The browser plays no sound until you have clicked or typed something in this page."
      : "";
  }

  /** Get ready. Browsers play nothing before the first click or key in a page, so this waits for one. */
  start() {
    if (this.#context) return;
    try {
      this.#context = new AudioContext();
    } catch {
      this.#refused = "This browser plays no sound.";
      return;
    }
    const context = this.#context;
    const resume = () => context.resume().catch(() => {});
    context.addEventListener("statechange", () => this.changed());
    for (const type of ["pointerdown", "keydown"]) document.addEventListener(type, resume, { passive: true });
  }

  /** Play it; nothing while the browser refuses. */
  play() {
    const context = this.#context;
    if (context?.state !== "running") return;
    this.played += 1;
    TONES.forEach((frequency, index) => {
      const begin = context.currentTime + index * LENGTH;
      const oscillator = new OscillatorNode(context, { frequency });
      // Soft edges, since a tone that is cut off clicks.
      const gain = new GainNode(context, { gain: 0 });
      gain.gain.setValueAtTime(0, begin);
      gain.gain.linearRampToValueAtTime(VOLUME, begin + 0.02);
      gain.gain.linearRampToValueAtTime(0, begin + LENGTH);
      oscillator.connect(gain).connect(context.destination);
      oscillator.start(begin);
      oscillator.stop(begin + LENGTH);
    });
  }
}
