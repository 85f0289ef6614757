"use strict";

/* Columns of numbers that lie in the chunks as base64: two bytes a value, 65535 for none. */
Atlas.packing = (() => {
  const NONE = 0xffff;
  const TOP = 0xfffe;

  function bytes(text) {
    const binary = atob(text);
    const buffer = new Uint8Array(binary.length);
    for (let place = 0; place < binary.length; place++) buffer[place] = binary.charCodeAt(place);
    return new DataView(buffer.buffer);
  }

  function integers(text, size) {
    const view = bytes(text);
    const values = new Uint32Array(view.byteLength / size);
    for (let place = 0; place < values.length; place++) {
      values[place] = size === 2 ? view.getUint16(place * 2, true) : view.getUint32(place * 4, true);
    }
    return values;
  }

  function numbers(column) {
    const steps = integers(column.packed, 2);
    const span = column.high - column.low;
    return Float64Array.from(steps, (step) => (step === NONE ? NaN : column.low + (step / TOP) * span));
  }

  return { integers, numbers };
})();
