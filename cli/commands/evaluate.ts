// gemmoe evaluate: loss, perplexity and bits per byte of a model on a text.

import { resolve } from 'node:path';
import { listTextFiles, readDocuments } from '../../core/data/documents.ts';
import { MemorySource, tokenArray } from '../../core/data/sources.ts';
import { GemmoeError } from '../../core/errors.ts';
import { evaluateSource } from '../../core/training/evaluate.ts';
import type { Command } from '../command.ts';
import { grouped, table } from '../format.ts';
import { backendLine, openModel, startServices } from '../services.ts';

const BATCH = 8;

export const evaluate: Command = {
  name: 'evaluate',
  summary: 'measure loss, perplexity and bits per byte of a model on a text',
  options: ['model', 'data', 'textField', 'sequenceLength', 'batchSize', 'backend', 'plugin'],
  examples: ['gemmoe evaluate --model runs/mine --data test.txt'],
  stopsGently: true,
  async run(context) {
    const { options, terminal, cwd, signal } = context;
    if (options.data.length === 0) throw new GemmoeError('usage', 'no text is named', 'name one: --data FILE');
    using services = await startServices(context);
    const { model, tokenizer, directory } = openModel(context, services.kernels);
    if (!tokenizer) {
      throw new GemmoeError(
        'not-found',
        `${directory} has no tokenizer.json, so text cannot be read with it`,
        'add the file',
      );
    }
    const ids: number[] = [];
    let textBytes = 0;
    let begins = true;
    for await (const { text, end } of readDocuments(
      listTextFiles(options.data.map((path) => resolve(cwd, path))),
      options.textField,
    )) {
      textBytes += Buffer.byteLength(text);
      if (begins && ids.length > 0 && tokenizer.endOfText !== undefined) ids.push(tokenizer.endOfText);
      for (const id of tokenizer.encode(text)) ids.push(id);
      begins = end;
    }
    const source = new MemorySource(tokenArray(ids, tokenizer.vocabSize), textBytes);
    const sequenceLength = options.sequenceLength ?? Math.min(model.config.maxSequenceLength, source.length - 1);
    const batchSize = options.batchSize ?? BATCH;
    const result = await evaluateSource(model, source, { batchSize, sequenceLength, signal });
    const { loss, perplexity, bitsPerByte, windows, tokens } = result;
    terminal.result({ ...result, sequenceLength, backend: services.backend.name });
    terminal.note(backendLine(services));
    for (const line of table([
      ['loss', `${loss.toFixed(4)} nats per token`],
      ['perplexity', perplexity.toFixed(3)],
      ['bits per byte', bitsPerByte?.toFixed(4) ?? 'unknown'],
      ['tokens', `${grouped(tokens)} in ${grouped(windows)} windows of ${grouped(sequenceLength)}`],
    ])) {
      terminal.print(line);
    }
    return 0;
  },
};
