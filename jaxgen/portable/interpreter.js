"use strict";
// Runs programs of jaxgen.portable.folded. Every array is a Float32Array in row-major order: integers and booleans are
// numbers too. A program is {shapes, kinds (f, i or b), equations: [[operation, [operands], params]], output, inputs}:
// its arrays are numbered inputs first, then constants, then the equations' results.
const interpreter = (() => {
  const size = (shape) => shape.reduce((a, b) => a * b, 1);

  function strides(shape) {
    const of = new Array(shape.length);
    for (let axis = shape.length - 1, step = 1; axis >= 0; step *= shape[axis--]) of[axis] = step;
    return of;
  }

  // Elements of x from `start` on, at `steps` from each other along the axes of `shape`.
  function read(x, shape, steps, start = 0) {
    const out = new Float32Array(size(shape)), last = shape.length - 1;
    if (last < 0) return out.fill(x[start]);
    let n = 0;
    (function along(axis, at) {
      const step = steps[axis], length = shape[axis];
      if (axis === last) for (let i = 0; i < length; i++, at += step) out[n++] = x[at];
      else for (let i = 0; i < length; i++, at += step) along(axis + 1, at);
    })(0, start);
    return out;
  }

  // An array of `shape` repeated to `target`, as NumPy broadcasts.
  function broadcast(x, shape, target) {
    if (x.length === size(target)) return x;
    const own = strides(shape), more = target.length - shape.length;
    return read(x, target, target.map((_, axis) => (axis < more || shape[axis - more] === 1 ? 0 : own[axis - more])));
  }

  function erf(x) {
    if (Math.abs(x) > 4) return Math.sign(x);
    let sum = x, term = x;
    for (let n = 1; Math.abs(term) > 1e-17 * Math.abs(sum); n++) {
      term *= (-x * x) / n;
      sum += term / (2 * n + 1);
    }
    return (2 / Math.sqrt(Math.PI)) * sum;
  }

  function even(x) {
    const below = Math.floor(x), rest = x - below;
    return rest < 0.5 || (rest === 0.5 && below % 2 === 0) ? below : below + 1;
  }

  const UNARY = {
    neg: (x) => -x, exp: Math.exp, log: Math.log, tanh: Math.tanh, logistic: (x) => 1 / (1 + Math.exp(-x)),
    sqrt: Math.sqrt, rsqrt: (x) => 1 / Math.sqrt(x), abs: Math.abs, sign: Math.sign, floor: Math.floor, ceil: Math.ceil,
    round: even, not: (x) => (x ? 0 : 1), sin: Math.sin, cos: Math.cos, erf, log1p: Math.log1p, expm1: Math.expm1,
  };
  const BINARY = {
    add: (a, b) => a + b, sub: (a, b) => a - b, mul: (a, b) => a * b, div: (a, b) => a / b, max: Math.max,
    min: Math.min, pow: Math.pow, rem: (a, b) => a % b, eq: (a, b) => (a === b ? 1 : 0), ne: (a, b) => (a !== b ? 1 : 0),
    lt: (a, b) => (a < b ? 1 : 0), le: (a, b) => (a <= b ? 1 : 0), gt: (a, b) => (a > b ? 1 : 0),
    ge: (a, b) => (a >= b ? 1 : 0), and: (a, b) => (a && b ? 1 : 0), or: (a, b) => (a || b ? 1 : 0),
  };

  // Operations of (out: {shape, kind}, params, operands, shapes of the operands).
  const OPERATIONS = {
    where(out, _, [which, a, b], [s, t, u]) {
      [which, a, b] = [broadcast(which, s, out.shape), broadcast(a, t, out.shape), broadcast(b, u, out.shape)];
      return Float32Array.from(which, (chosen, i) => (chosen ? a[i] : b[i]));
    },
    cast: (out, _, [x]) => (out.kind === "f" ? x : x.map(out.kind === "i" ? Math.trunc : (v) => (v ? 1 : 0))),
    reshape: (out, _, [x]) => x,
    broadcast: (out, _, [x], [shape]) => broadcast(x, shape, out.shape),
    transpose(out, { axes }, [x], [shape]) {
      const own = strides(shape);
      return read(x, out.shape, axes.map((axis) => own[axis]));
    },
    concatenate(out, { axis }, operands, shapes) {
      const made = new Float32Array(size(out.shape)), widths = shapes.map((shape) => size(shape.slice(axis)));
      for (let row = 0, at = 0; at < made.length; row++)
        operands.forEach((x, i) => {
          made.set(x.subarray(row * widths[i], (row + 1) * widths[i]), at);
          at += widths[i];
        });
      return made;
    },
    slice(out, { start, step }, [x], [shape]) {
      const own = strides(shape);
      return read(x, out.shape, own.map((s, axis) => s * step[axis]), own.reduce((at, s, axis) => at + s * start[axis], 0));
    },
    pad(out, { low, value }, [x], [shape]) {
      const made = new Float32Array(size(out.shape)).fill(value), own = strides(out.shape), width = shape.at(-1) ?? 1;
      let n = 0;
      (function along(axis, at) {
        if (axis >= shape.length - 1) made.set(x.subarray(n, (n += width)), at + (low.at(-1) ?? 0));
        else for (let i = 0; i < shape[axis]; i++) along(axis + 1, at + (i + low[axis]) * own[axis]);
      })(0, 0);
      return made;
    },
    flip(out, { axes }, [x], [shape]) {
      const own = strides(shape), start = axes.reduce((at, axis) => at + own[axis] * (shape[axis] - 1), 0);
      return read(x, shape, own.map((s, axis) => (axes.includes(axis) ? -s : s)), start);
    },
    sum: (out, { axes }, [x], [shape]) => reduced(out, axes, x, shape, 0, (a, b) => a + b),
    maximum: (out, { axes }, [x], [shape]) => reduced(out, axes, x, shape, -Infinity, Math.max),
    minimum: (out, { axes }, [x], [shape]) => reduced(out, axes, x, shape, Infinity, Math.min),
    argmax(out, { axis }, [x], [shape]) {
      const made = new Float32Array(size(out.shape)), [rows, length] = lastAxis(x, shape, axis);
      for (let n = 0, at = 0; n < made.length; n++, at += length)
        for (let i = 1; i < length; i++) if (rows[at + i] > rows[at + made[n]]) made[n] = i;
      return made;
    },
    cumsum(out, { axis }, [x], [shape]) {
      const step = strides(shape)[axis], made = Float32Array.from(x);
      for (let i = 0; i < made.length; i++) if (Math.floor(i / step) % shape[axis]) made[i] += made[i - step];
      return made;
    },
    take(out, _, [x, indices], [shape]) {
      const made = new Float32Array(size(out.shape)), width = size(shape.slice(1));
      indices.forEach((row, n) => made.set(x.subarray(row * width, (row + 1) * width), n * width));
      return made;
    },
    matmul(out, _, [a, b], [shape]) {
      const [m, n] = out.shape.slice(-2), k = shape.at(-1), made = new Float32Array(size(out.shape));
      for (let row = 0; row < made.length / n; row++) {
        const into = row * n, matrix = Math.floor(row / m) * k * n;
        for (let i = 0; i < k; i++) {
          const factor = a[row * k + i], from = matrix + i * n;
          if (factor !== 0) for (let j = 0; j < n; j++) made[into + j] += factor * b[from + j];
        }
      }
      return made;
    },
    conv(out, params, [x, kernel], [s, t]) {
      const made = new Float32Array(size(out.shape)), inner = t[2], outer = t[3];
      meetings(s, out.shape, t, params, (pixel, output, place) => {
        for (let i = 0; i < inner; i++) {
          const factor = x[pixel * inner + i], from = (place * inner + i) * outer, into = output * outer;
          if (factor !== 0) for (let o = 0; o < outer; o++) made[into + o] += factor * kernel[from + o];
        }
      });
      return made;
    },
    conv_transpose(out, params, [x, kernel], [s, t]) {
      const made = new Float32Array(size(out.shape)), inner = t[2], outer = t[3];
      meetings(out.shape, s, t, params, (pixel, output, place) => {
        const from = output * outer;
        for (let i = 0; i < inner; i++) {
          let sum = 0;
          for (let o = 0, at = (place * inner + i) * outer; o < outer; o++) sum += x[from + o] * kernel[at + o];
          made[pixel * inner + i] += sum;
        }
      });
      return made;
    },
  };

  // Calls meet(pixel, output, place) for the pixels that a convolution's outputs meet, and the kernel's place there.
  function meetings([batch, height, width], [, rows, columns], [kh, kw], { strides: [sh, sw], padding }, meet) {
    const [[top], [left]] = padding;
    for (let b = 0; b < batch; b++)
      for (let row = 0; row < rows; row++)
        for (let column = 0; column < columns; column++)
          for (let u = 0; u < kh; u++) {
            const y = row * sh + u - top;
            if (y < 0 || y >= height) continue;
            for (let v = 0; v < kw; v++) {
              const x = column * sw + v - left;
              if (x >= 0 && x < width) meet((b * height + y) * width + x, (b * rows + row) * columns + column, u * kw + v);
            }
          }
  }

  // x with one axis moved to the end, and that axis's length.
  function lastAxis(x, shape, axis) {
    const axes = [...shape.keys()].filter((each) => each !== axis).concat(axis), own = strides(shape);
    return [read(x, axes.map((each) => shape[each]), axes.map((each) => own[each])), shape[axis]];
  }

  function reduced(out, axes, x, shape, start, f) {
    const made = new Float64Array(size(out.shape)).fill(start), rest = shape.map((_, axis) => !axes.includes(axis));
    const own = strides(shape.filter((_, axis) => rest[axis])), steps = rest.map((kept) => (kept ? own.shift() : 0));
    let n = 0;
    (function along(axis, at) {
      if (axis === shape.length) made[at] = f(made[at], x[n++]);
      else for (let i = 0; i < shape[axis]; i++) along(axis + 1, at + i * steps[axis]);
    })(0, 0);
    return Float32Array.from(made);
  }

  function operation(name, out) {
    if (name in UNARY) {
      const f = UNARY[name];
      return (_, params, [x]) => x.map((v) => f(v));
    }
    if (!(name in BINARY)) return OPERATIONS[name];
    const f = name === "div" && out.kind === "i" ? (a, b) => Math.trunc(a / b) : BINARY[name];
    return (_, params, [a, b], [s, t]) => {
      [a, b] = [broadcast(a, s, out.shape), broadcast(b, t, out.shape)];
      return a.map((v, i) => f(v, b[i]));
    };
  }

  // The function of arrays that a program with these constants is.
  function compile(program, constants) {
    const first = program.inputs + constants.length;
    const steps = program.equations.map(([name, operands, params], n) => {
      const out = { shape: program.shapes[first + n], kind: program.kinds[first + n] };
      return [operation(name, out), out, params, operands, operands.map((number) => program.shapes[number])];
    });
    return (...inputs) => {
      const arrays = [...inputs, ...constants];
      for (const [run, out, params, operands, shapes] of steps)
        arrays.push(run(out, params, operands.map((number) => arrays[number]), shapes));
      return arrays[program.output];
    };
  }

  function halves(bits) {
    const sign = bits >> 15 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
    return sign * (exponent ? (1 + fraction / 1024) * 2 ** (exponent - 15) : fraction * 2 ** -24);
  }

  function bytes(base64) {
    return Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0)).buffer;
  }

  // Arrays of these shapes from the texts of float32 and of float16; `half` says which are where.
  function unpack({ full, half }, shapes, isHalf) {
    const wide = new Float32Array(bytes(full)), narrow = Float32Array.from(new Uint16Array(bytes(half)), halves);
    let a = 0, b = 0;
    return shapes.map((shape, n) =>
      isHalf[n] === "1" ? narrow.subarray(b, (b += size(shape))) : wide.subarray(a, (a += size(shape))),
    );
  }

  return { compile, unpack, bytes, size };
})();
