// A QR code of a text (ISO/IEC 18004): bytes, error correction M, versions 1 to 20. Returns rows of booleans.

const [PER_BLOCK, BLOCKS] = [
	[10, 16, 26, 18, 24, 16, 18, 22, 22, 26, 30, 22, 22, 24, 24, 28, 28, 26, 26, 26],
	[1, 1, 1, 2, 2, 4, 4, 4, 5, 5, 5, 8, 9, 9, 10, 10, 11, 13, 14, 16],
];
const MASKS = [(x, y) => (x + y) % 2, (x, y) => y % 2, (x) => x % 3, (x, y) => (x + y) % 3];

// Modules of a version that hold data, before error correction.
function room(version) {
	const marks = version > 1 ? Math.floor(version / 7) + 2 : 0;
	const taken = marks ? (25 * marks - 10) * marks - 55 : 0;
	return (16 * version + 128) * version + 64 - taken - (version > 6 ? 36 : 0);
}

const places = (version) => {
	const count = Math.floor(version / 7) + 2;
	const step = Math.ceil((version * 4 + 4) / (count * 2 - 2)) * 2;
	return version === 1 ? [] : [6, ...Array.from({ length: count - 1 }, (_, at) => version * 4 + 10 - at * step).reverse()];
};

// The product in the field of 256 elements, modulo x⁸ + x⁴ + x³ + x² + 1.
function product(x, y) {
	let found = 0;
	for (let bit = 7; bit >= 0; bit--) found = (found << 1) ^ ((found >>> 7) * 0x11d) ^ (((y >>> bit) & 1) * x);
	return found;
}

function correction(data, count) {
	const divisor = [...Array(count - 1).fill(0), 1];
	for (let each = 0, root = 1; each < count; each++, root = product(root, 2))
		for (let at = 0; at < count; at++) divisor[at] = product(divisor[at], root) ^ (divisor[at + 1] ?? 0);
	return data.reduce((rest, byte) => {
		const factor = byte ^ rest[0];
		return [...rest.slice(1), 0].map((value, at) => value ^ product(divisor[at], factor));
	}, Array(count).fill(0));
}

// The bytes of a version, with those that correct errors, blocks interleaved.
function codewords(text, version) {
	const [whole, each, blocks] = [room(version) >> 3, PER_BLOCK[version - 1], BLOCKS[version - 1]];
	const size = whole - each * blocks;
	const bits = [4, text.length].map((value, at) => value.toString(2).padStart(at ? (version < 10 ? 8 : 16) : 4, "0"));
	const all = [...bits, ...[...text].map((byte) => byte.toString(2).padStart(8, "0")), "0000"].join("").slice(0, size * 8);
	const data = (all.padEnd(Math.ceil(all.length / 8) * 8, "0").match(/.{8}/g) ?? []).map((byte) => parseInt(byte, 2));
	for (let pad = 0xec; data.length < size; pad ^= 0xfd) data.push(pad);
	const short = Math.floor(size / blocks);
	const parts = [];
	for (let at = 0; at < blocks; at++) parts.push(data.splice(0, short + (at >= blocks - (size % blocks) ? 1 : 0)));
	const turns = (lists, most) => Array.from({ length: most }, (_, at) => lists.map((list) => list[at])).flat().filter((byte) => byte !== undefined);
	return [...turns(parts, short + 1), ...turns(parts.map((part) => correction(part, each)), each)];
}

export function qr(string) {
	const text = new TextEncoder().encode(string);
	let version = 1;
	while (version < 20 && (room(version) >> 3) - PER_BLOCK[version - 1] * BLOCKS[version - 1] < text.length + (version < 10 ? 2 : 3)) version++;
	const size = version * 4 + 17;
	const [rows, fixed] = [0, 1].map(() => Array.from({ length: size }, () => Array(size).fill(false)));
	const set = (x, y, dark) => {
		if (rows[y]?.[x] !== undefined) [rows[y][x], fixed[y][x]] = [Boolean(dark), true];
	};
	const square = (x, y, radius, dark) => {
		for (let down = -radius; down <= radius; down++)
			for (let across = -radius; across <= radius; across++) set(x + across, y + down, dark(Math.max(Math.abs(across), Math.abs(down))));
	};
	for (let at = 0; at < size; at++) set(6, at, at % 2 === 0), set(at, 6, at % 2 === 0);
	for (const [x, y] of [[3, 3], [size - 4, 3], [3, size - 4]]) square(x, y, 4, (ring) => ring !== 2 && ring !== 4);
	const marks = places(version);
	const isCorner = (x, y) => (x === 6 && [6, size - 7].includes(y)) || (y === 6 && x === size - 7);
	for (const x of marks) for (const y of marks) if (!isCorner(x, y)) square(x, y, 2, (ring) => ring !== 1);
	const code = (value, degree, generator) => {
		let rest = value;
		for (let bit = 0; bit < degree; bit++) rest = (rest << 1) ^ ((rest >>> (degree - 1)) * generator);
		return (value << degree) | rest;
	};
	const format = (mask) => {
		const bits = code(mask, 10, 0x537) ^ 0x5412; // M is 0
		for (let bit = 0; bit < 15; bit++) {
			const dark = (bits >>> bit) & 1;
			set(...(bit < 6 ? [8, bit] : bit < 8 ? [8, bit + 1] : bit === 8 ? [7, 8] : [14 - bit, 8]), dark);
			set(...(bit < 8 ? [size - 1 - bit, 8] : [8, size - 15 + bit]), dark);
		}
		set(8, size - 8, true);
	};
	format(0);
	if (version > 6) {
		const bits = code(version, 12, 0x1f25);
		for (let bit = 0; bit < 18; bit++) {
			const [far, near] = [size - 11 + (bit % 3), Math.floor(bit / 3)];
			set(far, near, (bits >>> bit) & 1), set(near, far, (bits >>> bit) & 1);
		}
	}
	const stream = codewords(text, version).flatMap((byte) => Array.from({ length: 8 }, (_, bit) => (byte >>> (7 - bit)) & 1));
	let next = 0;
	for (let right = size - 1; right >= 1; right -= 2) {
		if (right === 6) right = 5;
		for (let step = 0; step < size; step++) {
			const y = (right + 1) & 2 ? step : size - 1 - step;
			for (const x of [right, right - 1]) if (!fixed[y][x]) rows[y][x] = Boolean(stream[next++]);
		}
	}
	// The mask with the fewest runs of one colour: those confuse readers.
	const masked = MASKS.map((mask, number) => {
		format(number);
		const drawn = rows.map((row, y) => row.map((dark, x) => dark !== (!fixed[y][x] && mask(x, y) === 0)));
		const lines = [...drawn, ...drawn.map((_, x) => drawn.map((row) => row[x]))].map((row) => row.map(Number).join(""));
		return { drawn, runs: lines.join("\n").match(/0{5,}|1{5,}/g)?.length ?? 0 };
	});
	return masked.reduce((best, each) => (each.runs < best.runs ? each : best)).drawn;
}
