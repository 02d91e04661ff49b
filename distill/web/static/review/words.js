/* Decisions in words. */

export const number = (n) => n.toLocaleString("en");
export const CHOICES = { accept: "accepted", reject: "rejected", unsure: "left open", change: "changed" };

export function words(line) {
  const count = line.images.length;
  const faces = count === 1 ? `image ${line.images[0]}` : `${number(count)} faces`;
  switch (line.action) {
    case "drop": return `leave out ${faces}`;
    case "move": return `move ${faces} to identity ${line.into}`;
    case "split": return line.into ? `split off ${faces} (new person ${line.into})` : `split off ${faces} as a new person`;
    case "merge": return `merge identity ${line.identity} → into identity ${line.into}`;
    default: return `leave out identity ${line.identity}`;
  }
}

export function markWord(line) {
  return line && { drop: "leave out", move: `→ ${line.into}`, split: "split off" }[line.action];
}

/* A decision as proposed and stored: "move 17 3 5" moves image 17 of identity 3 to 5. */
export function lineOf(text) {
  const [action, ...numbers] = text.split(" ");
  const [first, second = null, third = null] = numbers.map(Number);
  if (action === "merge" || action === "drop-identity") return { action, identity: first, into: second, images: [] };
  return { action, identity: second, into: third, images: [first] };
}
