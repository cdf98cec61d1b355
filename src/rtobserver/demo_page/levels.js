// Measures how loud streams are, and shows it in meters.

const MOMENT_MS = 66;
// Speech is rarely louder than a quarter of full scale; the root spreads what is quiet.
const LOUD = 0.25;

export class Levels {
  #context = new AudioContext();
  #meters = [];
  #timer = setInterval(() => this.#show(), MOMENT_MS);

  constructor() {
    // a context made long after the click may begin suspended
    void this.#context.resume();
  }

  /** Shows the loudness of a stream in a `<meter>`; a second time changes nothing. */
  add(stream, meter) {
    if (this.#meters.some((known) => known.stream === stream && known.meter === meter)) return;
    if (this.#context.state === "closed" || !stream.getAudioTracks().length) return;
    const analyser = new AnalyserNode(this.#context, { fftSize: 1024 });
    const source = this.#context.createMediaStreamSource(stream);
    source.connect(analyser);
    // the source is kept beside its meter, lest it be collected
    this.#meters.push({ stream, source, analyser, meter, samples: new Float32Array(analyser.fftSize) });
  }

  close() {
    clearInterval(this.#timer);
    for (const { meter } of this.#meters) meter.value = 0;
    this.#meters = [];
    if (this.#context.state !== "closed") void this.#context.close();
  }

  #show() {
    for (const { analyser, meter, samples } of this.#meters) {
      analyser.getFloatTimeDomainData(samples);
      const mean = samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length;
      meter.value = Math.min(1, Math.sqrt(Math.sqrt(mean) / LOUD));
    }
  }
}
