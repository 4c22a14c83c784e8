// Early stopping (Prechelt 1998): a run ends when validation has not gained for a while.

/** What is kept between validations. */
export interface PatienceState {
  /** Loss that the next gain is measured from; null before the first validation. */
  readonly reference: number | null;
  /** Validations since the last gain. */
  readonly waited: number;
}

export const NO_VALIDATION: PatienceState = { reference: null, waited: 0 };

/** After a validation. @param minDelta how much lower a loss must be to count as a gain; 0: any lower one */
export function afterValidation({ reference, waited }: PatienceState, loss: number, minDelta: number): PatienceState {
  const isGain = reference === null || loss < reference - minDelta;
  return isGain ? { reference: loss, waited: 0 } : { reference, waited: waited + 1 };
}

/** @param patience validations without gain that end a run; 0 never ends it */
export function isPatienceOver({ waited }: PatienceState, patience: number): boolean {
  return patience > 0 && waited >= patience;
}
