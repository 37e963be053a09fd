/// A source of random numbers that gives the same ones for the same seed, on every machine.
///
/// It is xoshiro256**, its state filled by SplitMix64, as their authors advise.
public struct RandomSource: RandomNumberGenerator, Sendable {
  private var a: UInt64
  private var b: UInt64
  private var c: UInt64
  private var d: UInt64

  public init(seed: UInt64) {
    var mixer = SplitMix(state: seed)
    a = mixer.next()
    b = mixer.next()
    c = mixer.next()
    d = mixer.next()
  }

  init(state: (UInt64, UInt64, UInt64, UInt64)) {
    (a, b, c, d) = state
  }

  public mutating func next() -> UInt64 {
    let product = b &* 5
    let result = ((product << 7) | (product >> 57)) &* 9
    let shifted = b << 17
    c ^= a
    d ^= b
    b ^= c
    a ^= d
    c ^= shifted
    d = (d << 45) | (d >> 19)
    return result
  }

  /// A source of its own for one purpose, so that one purpose's draws do not shift another's.
  public mutating func branch() -> RandomSource { RandomSource(seed: next()) }

  /// A number below `bound`; 0 for a bound of 0.
  public mutating func below(_ bound: UInt64) -> UInt64 {
    next().multipliedFullWidth(by: bound).high
  }

  /// A number of the range, both ends included.
  public mutating func number(in range: ClosedRange<Int64>) -> Int64 {
    let width = range.upperBound.subtractingReportingOverflow(range.lowerBound).partialValue
    return range.lowerBound &+ Int64(truncatingIfNeeded: below(UInt64(bitPattern: width) &+ 1))
  }

  /// True in `parts` of `whole` draws.
  public mutating func chance(_ parts: UInt64, in whole: UInt64) -> Bool { below(whole) < parts }

  /// One of the elements; nil for none.
  public mutating func pick<Element>(_ elements: [Element]) -> Element? {
    elements.isEmpty ? nil : elements[Int(below(UInt64(elements.count)))]
  }
}

private struct SplitMix {
  var state: UInt64

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var mixed = state
    mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
    return mixed ^ (mixed >> 31)
  }
}
