// Texts that callers, models and clients made, on their way onto a page.

const NAMES = {
  "\u200b": "ZWSP", "\u200e": "LRM", "\u200f": "RLM", "\u061c": "ALM", "\u202a": "LRE", "\u202b": "RLE", "\u202c": "PDF",
  "\u202d": "LRO", "\u202e": "RLO", "\u2066": "LRI", "\u2067": "RLI", "\u2068": "FSI", "\u2069": "PDI", "\ufeff": "BOM",
};
// what changes the look of a text without being seen in it: controls but for line ends, and bidi controls
const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]/g;

/** Write a text with marks in place of what cannot be seen, as templates do with all that they write. */
export function visible(text) {
  return (text ?? "").replace(UNSEEN, (character) => {
    const code = character.charCodeAt(0);
    if (code < 0x20) return String.fromCharCode(0x2400 + code);
    return code === 0x7f ? "\u2421" : `[${NAMES[character] ?? `U+${code.toString(16).toUpperCase().padStart(4, "0")}`}]`;
  });
}
