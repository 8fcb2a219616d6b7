"use strict";
// What every script of a page uses. Text from data goes in through textContent only, so that a name is never read as
// markup.

const byId = (id) => document.getElementById(id);
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** An element with properties and children; children may be strings. */
function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** Four significant digits, a true minus sign. */
function number(value) {
  return String(Number(Number(value).toPrecision(4))).replace("-", "−");
}

function percent(share) {
  return `${number((share * 100).toPrecision(3))} %`;
}

/** A whole number with thousands apart. */
function english(count) {
  return count.toLocaleString("en");
}

/** The inverse of `pack` in Python. Typed arrays are little-endian on every machine that runs a browser. */
function unpack(packed) {
  const bytes = Uint8Array.from(atob(packed.base64), (character) => character.charCodeAt(0));
  const types = { uint8: Uint8Array, int32: Int32Array, float32: Float32Array, float64: Float64Array };
  return { values: new types[packed.dtype](bytes.buffer), shape: packed.shape };
}

/** Unpacks in place every packed array among an object's values. */
function unpackAll(entries) {
  for (const [key, value] of Object.entries(entries)) if (value?.base64 !== undefined) entries[key] = unpack(value);
}

/** Whether a unit is dead or always on, in words; empty where it is neither. */
function stateOf({ dead, always_on }, unit) {
  return dead[unit] ? "dead" : always_on[unit] ? "always on" : "";
}

/** Row i of an unpacked array, whatever its number of axes. */
function row(array, i) {
  const size = array.values.length / array.shape[0];
  return array.values.subarray(i * size, (i + 1) * size);
}

/** Puts grey values, already scaled by Python's rule, on a canvas; shape is [height, width, channels]. */
function paint(canvas, grey, [height, width, channels]) {
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  for (let pixel = 0; pixel < width * height; pixel++) {
    for (let channel = 0; channel < 3; channel++) {
      image.data[4 * pixel + channel] = grey[channels * pixel + (channels === 3 ? channel : 0)];
    }
    image.data[4 * pixel + 3] = 255;
  }
  context.putImageData(image, 0, 0);
}

/** A canvas of such a picture; without a label it is hidden from screen readers, where text beside it says the same. */
function canvasOf(grey, shape, label) {
  const canvas = make("canvas", { className: "image" });
  if (label) {
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", label);
  }
  paint(canvas, grey, shape);
  return canvas;
}
