"use strict";
// Computes codes and reconstructions as Python does, from the weights and formulas that the page carries.

/** M x of an unpacked matrix. */
function product(matrix, x) {
  const [height, width] = matrix.shape;
  const out = new Float64Array(height);
  for (let i = 0; i < height; i++) {
    let sum = 0;
    for (let j = 0; j < width; j++) sum += matrix.values[i * width + j] * x[j];
    out[i] = sum;
  }
  return out;
}

/** Mᵀ x of an unpacked matrix. */
function transposed(matrix, x) {
  const [height, width] = matrix.shape;
  const out = new Float64Array(width);
  for (let i = 0; i < height; i++) {
    for (let j = 0; j < width; j++) out[j] += matrix.values[i * width + j] * x[i];
  }
  return out;
}

/** A X Bᵀ of each channel of an image X, channels last; A and B are unpacked matrices. */
function alongAxes(down, across, x) {
  const height = down.shape[1], width = across.shape[1], channels = x.length / (height * width);
  const out = new Float64Array(down.shape[0] * across.shape[0] * channels);
  const column = new Float64Array(height);
  const halves = new Float64Array(down.shape[0] * width);
  for (let channel = 0; channel < channels; channel++) {
    for (let j = 0; j < width; j++) {
      for (let i = 0; i < height; i++) column[i] = x[(i * width + j) * channels + channel];
      product(down, column).forEach((value, i) => (halves[i * width + j] = value));
    }
    for (let i = 0; i < down.shape[0]; i++) {
      const line = product(across, halves.subarray(i * width, (i + 1) * width));
      line.forEach((value, j) => (out[(i * line.length + j) * channels + channel] = value));
    }
  }
  return out;
}

/**
 * A function of a raw row: its codes, what comes back, and what the model was given of it. The two last are taken back
 * through the inverses of the last steps.
 */
function computing(model, formulas) {
  const arrays = model.arrays.map(unpack);
  const Row = model.single ? Float32Array : Float64Array; // as precise as Python's rows between two steps
  const argumentsOf = (part) => {
    const named = Object.entries(part.arrays ?? {}).map(([name, place]) => [name, arrays[place]]);
    const vectors = named.map(([name, array]) => [name, array.shape.length === 1 ? array.values : array]);
    return { ...formulas[part.formula].arguments, ...Object.fromEntries(vectors) };
  };
  const through = (steps) => {
    const parts = steps.map((part) => [formulas[part.formula].of, argumentsOf(part)]);
    return (x) => parts.reduce((values, [of, p]) => Row.from(of(Float64Array.from(values), p)), Row.from(x));
  };
  const along = (layers, times) => {
    const parts = layers.map((layer) => [layer, formulas[layer.formula].of, argumentsOf(layer)]);
    const answer = (x, [layer, of, p]) =>
      times(arrays[layer.weight], x).map((sum, i) => of(sum + arrays[layer.bias].values[i], p));
    return (x) => parts.reduce(answer, x);
  };
  const prepare = through(model.prepare), restore = through(model.restore);
  const encode = along(model.encode, product), decode = along(model.decode, transposed);
  return (raw) => {
    const given = prepare(raw);
    const codes = encode(given);
    return { codes, given: restore(given), back: restore(decode(codes)) };
  };
}
