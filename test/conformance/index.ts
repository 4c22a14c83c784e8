// The conformance suite for backends: what our own pass, and what a backend of yours should.
//
//   import { describeMatmulBackend } from 'gemmoe/conformance';
//   describeMatmulBackend('mine', () => new MyBackend());

export { describeKernels } from './kernels.ts';
export { describeMatmulBackend } from './matmul-backend.ts';
