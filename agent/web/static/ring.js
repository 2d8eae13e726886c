// A sound when an alarm or alert is raised, for whoever asks for one on this device.

let ears = null, wanted = localStorage.getItem("ring") === "on";

export function alarmSound() {
  if (!wanted) return;
  ears ||= new AudioContext();
  ears.resume().then(() => [0, 0.35, 0.7].forEach((after, i) => {
    const tone = ears.createOscillator(), gain = ears.createGain(), at = ears.currentTime + after;
    tone.frequency.value = i % 2 ? 660 : 880;
    gain.gain.setValueAtTime(0, at);
    gain.gain.linearRampToValueAtTime(0.25, at + 0.02);
    gain.gain.exponentialRampToValueAtTime(0.001, at + 0.3);
    tone.connect(gain).connect(ears.destination);
    tone.start(at);
    tone.stop(at + 0.32);
  })).catch(() => {});
}

// A browser lets a page sound only after somebody has touched it: the switch sounds itself.
export function soundSwitch(box) {
  box.checked = wanted;
  box.addEventListener("change", () => {
    wanted = box.checked;
    localStorage.setItem("ring", wanted ? "on" : "off");
    alarmSound();
  });
}
