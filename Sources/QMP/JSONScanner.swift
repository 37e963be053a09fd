/// Reads JSON byte by byte ahead of json-c: finds where a value ends, and refuses what json-c would
/// take silently or without bound.
///
/// json-c (0.16, strict) checks the grammar. It does not bound the number of values or the length,
/// saturates integers, cuts member names at a NUL, takes `NaN`, `Infinity`, raw control characters
/// and numbers such as `-01`, and checks UTF-8 loosely and only within one chunk. All of that is
/// decided here, one byte after the other, so the verdict never depends on how the bytes arrive.
struct JSONScanner {
  enum Outcome: Equatable {
    /// All bytes belong to the value (or precede it), which is not over yet.
    case incomplete
    /// The object or array ended; `end` is the index behind its last byte.
    case complete(end: Int)
    /// The byte at `index` must not stand there.
    case refused(Refusal, index: Int)
  }

  enum Refusal: Equatable {
    case notAnObject, tooLong, tooDeep, tooManyValues, unexpectedByte, controlCharacter, invalidUTF8
    case malformedNumber, integerOutOfRange, nameWithNull
  }

  private enum Mode {
    case outside, structure, string, escape, unicode, character, number
  }

  private enum NumberPhase {
    case minus, zero, integer, point, fraction, exponentMark, exponentSign, exponent
  }

  private let limits: QMPLimits
  private let takesAnyValue: Bool
  private var mode = Mode.outside
  private var length = 0
  private var depth = 0
  private var values = 0

  // The string or member name in progress. Whether it is a name shows only at the colon.
  private var stringHoldsNull = false
  private var escapeDigits = 0
  private var escapeIsNull = false
  private var continuationBytes = 0
  private var continuationRange: ClosedRange<UInt8> = 0x80...0xBF

  // The number in progress.
  private var numberPhase = NumberPhase.minus
  private var isNegative = false
  private var magnitude: UInt64 = 0
  private var magnitudeOverflows = false

  /// A scanner of QMP messages, which are objects, or of any one value.
  init(limits: QMPLimits, takesAnyValue: Bool = false) {
    self.limits = limits
    self.takesAnyValue = takesAnyValue
  }

  /// Whether the bytes so far are nothing but white space.
  var isOutside: Bool { mode == .outside }

  /// Scans `bytes` from `start`; after `complete` or `refused` the scanner is used no more, except
  /// that `restart` begins the next value.
  mutating func scan(_ bytes: UnsafeRawBufferPointer, from start: Int) -> Outcome {
    var index = start
    while index < bytes.count {
      if mode == .string { index = skipPlainText(bytes, from: index) }
      guard index < bytes.count else { break }
      let byte = bytes[index]
      if mode == .outside && Self.isWhiteSpace(byte) {
        index += 1
        continue
      }
      guard length < limits.maximumLineBytes else { return .refused(.tooLong, index: index) }
      length += 1
      if let refusal = take(byte) { return .refused(refusal, index: index) }
      index += 1
      if depth == 0 && mode == .structure && Self.isClosing(byte) {
        return .complete(end: index)
      }
    }
    return .incomplete
  }

  /// How much of the limits the value in progress has used.
  var usage: (bytes: Int, depth: Int, values: Int) { (length, depth, values) }

  /// The verdict at the end of a text, for a value that nothing but the end delimits.
  mutating func refusalAtEnd() -> Refusal? {
    mode == .number ? endOfNumber() : nil
  }

  /// Forgets the value that ended, for the next one.
  mutating func restart() {
    self = JSONScanner(limits: limits, takesAnyValue: takesAnyValue)
  }

  private mutating func take(_ byte: UInt8) -> Refusal? {
    switch mode {
    case .string: takeInString(byte)
    case .structure: takeInStructure(byte)
    case .number: takeInNumber(byte)
    case .escape: takeEscape(byte)
    case .unicode: takeUnicodeDigit(byte)
    case .character: takeContinuation(byte)
    case .outside: takeFirst(byte)
    }
  }

  private mutating func takeFirst(_ byte: UInt8) -> Refusal? {
    guard takesAnyValue || byte == UInt8(ascii: "{") else { return .notAnObject }
    mode = .structure
    return takeInStructure(byte)
  }

  private mutating func takeInStructure(_ byte: UInt8) -> Refusal? {
    switch byte {
    case UInt8(ascii: "\""):
      mode = .string
      stringHoldsNull = false
    case UInt8(ascii: "{"), UInt8(ascii: "["):
      depth += 1
      guard depth <= limits.depth else { return .tooDeep }
      return countValue()
    case UInt8(ascii: "}"), UInt8(ascii: "]"):
      guard depth > 0 else { return .unexpectedByte }
      depth -= 1
    case UInt8(ascii: ","):
      return countValue()
    case UInt8(ascii: ":"):
      if stringHoldsNull { return .nameWithNull }
    case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"):
      startNumber(byte)
    case UInt8(ascii: "t"), UInt8(ascii: "r"), UInt8(ascii: "u"), UInt8(ascii: "e"),
      UInt8(ascii: "f"), UInt8(ascii: "a"), UInt8(ascii: "l"), UInt8(ascii: "s"),
      UInt8(ascii: "n"):
      break
    default:
      if !Self.isWhiteSpace(byte) { return .unexpectedByte }
    }
    return nil
  }

  private mutating func countValue() -> Refusal? {
    values += 1
    return values <= limits.maximumValues ? nil : .tooManyValues
  }

  private static func isClosing(_ byte: UInt8) -> Bool {
    byte == UInt8(ascii: "}") || byte == UInt8(ascii: "]")
  }

  static func isWhiteSpace(_ byte: UInt8) -> Bool {
    byte == UInt8(ascii: " ") || byte == UInt8(ascii: "\n") || byte == UInt8(ascii: "\r")
      || byte == UInt8(ascii: "\t")
  }
}

// MARK: - Strings

extension JSONScanner {
  /// Passes over the characters of a string that mean nothing but themselves, as far as the limit
  /// allows; gives the index behind them.
  private mutating func skipPlainText(_ bytes: UnsafeRawBufferPointer, from start: Int) -> Int {
    let end = start + min(bytes.count - start, max(limits.maximumLineBytes - length, 0))
    var index = start
    while index < end {
      let byte = bytes[index]
      guard byte >= 0x20, byte < 0x80, byte != UInt8(ascii: "\""), byte != UInt8(ascii: "\\")
      else { break }
      index += 1
    }
    length += index - start
    return index
  }

  private mutating func takeInString(_ byte: UInt8) -> Refusal? {
    switch byte {
    case UInt8(ascii: "\""): mode = .structure
    case UInt8(ascii: "\\"): mode = .escape
    case 0..<0x20: return .controlCharacter
    case 0x20..<0x80: break
    default: return takeLead(byte)
    }
    return nil
  }

  /// The first byte of a character outside ASCII narrows the second (RFC 3629): no overlong form,
  /// no surrogate, nothing above U+10FFFF.
  private mutating func takeLead(_ byte: UInt8) -> Refusal? {
    continuationRange = 0x80...0xBF
    switch byte {
    case 0xC2...0xDF:
      continuationBytes = 1
    case 0xE0...0xEF:
      continuationBytes = 2
      if byte == 0xE0 { continuationRange = 0xA0...0xBF }
      if byte == 0xED { continuationRange = 0x80...0x9F }
    case 0xF0...0xF4:
      continuationBytes = 3
      if byte == 0xF0 { continuationRange = 0x90...0xBF }
      if byte == 0xF4 { continuationRange = 0x80...0x8F }
    default:
      return .invalidUTF8
    }
    mode = .character
    return nil
  }

  private mutating func takeContinuation(_ byte: UInt8) -> Refusal? {
    guard continuationRange.contains(byte) else { return .invalidUTF8 }
    continuationRange = 0x80...0xBF
    continuationBytes -= 1
    if continuationBytes == 0 { mode = .string }
    return nil
  }

  private mutating func takeEscape(_ byte: UInt8) -> Refusal? {
    if byte == UInt8(ascii: "u") {
      mode = .unicode
      escapeDigits = 0
      escapeIsNull = true
    } else {
      // json-c knows which letters may follow; a control character would confuse its texts.
      guard byte > 0x20 && byte < 0x7F else { return .unexpectedByte }
      mode = .string
    }
    return nil
  }

  private mutating func takeUnicodeDigit(_ byte: UInt8) -> Refusal? {
    switch byte {
    case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "a")...UInt8(ascii: "f"),
      UInt8(ascii: "A")...UInt8(ascii: "F"):
      escapeIsNull = escapeIsNull && byte == UInt8(ascii: "0")
    default:
      return .unexpectedByte
    }
    escapeDigits += 1
    if escapeDigits == 4 {
      stringHoldsNull = stringHoldsNull || escapeIsNull
      mode = .string
    }
    return nil
  }
}

// MARK: - Numbers

extension JSONScanner {
  private mutating func startNumber(_ byte: UInt8) {
    mode = .number
    isNegative = byte == UInt8(ascii: "-")
    magnitude = 0
    magnitudeOverflows = false
    numberPhase = .minus
    if !isNegative { takeFirstDigit(byte) }
  }

  private mutating func takeFirstDigit(_ byte: UInt8) {
    magnitude = UInt64(byte - UInt8(ascii: "0"))
    numberPhase = byte == UInt8(ascii: "0") ? .zero : .integer
  }

  private mutating func takeInNumber(_ byte: UInt8) -> Refusal? {
    let isDigit = byte >= UInt8(ascii: "0") && byte <= UInt8(ascii: "9")
    let isPoint = byte == UInt8(ascii: ".")
    let isExponentMark = byte == UInt8(ascii: "e") || byte == UInt8(ascii: "E")
    let isSign = byte == UInt8(ascii: "+") || byte == UInt8(ascii: "-")
    guard isDigit || isPoint || isExponentMark || isSign else {
      if let refusal = endOfNumber() { return refusal }
      mode = .structure
      return takeAfterNumber(byte)
    }
    switch numberPhase {
    case .minus where isDigit: takeFirstDigit(byte)
    case .integer where isDigit: takeIntegerDigit(byte)
    case .zero where isPoint, .integer where isPoint: numberPhase = .point
    case .point where isDigit, .fraction where isDigit: numberPhase = .fraction
    case .zero where isExponentMark, .integer where isExponentMark, .fraction where isExponentMark:
      numberPhase = .exponentMark
    case .exponentMark where isSign: numberPhase = .exponentSign
    case .exponentMark where isDigit, .exponentSign where isDigit, .exponent where isDigit:
      numberPhase = .exponent
    default: return .malformedNumber
    }
    return nil
  }

  private mutating func takeIntegerDigit(_ byte: UInt8) {
    let (product, tooLarge) = magnitude.multipliedReportingOverflow(by: 10)
    let (sum, overflow) = product.addingReportingOverflow(UInt64(byte - UInt8(ascii: "0")))
    magnitude = sum
    magnitudeOverflows = magnitudeOverflows || tooLarge || overflow
  }

  private mutating func takeAfterNumber(_ byte: UInt8) -> Refusal? {
    switch byte {
    case UInt8(ascii: ","), UInt8(ascii: "]"), UInt8(ascii: "}"): takeInStructure(byte)
    default: Self.isWhiteSpace(byte) ? nil : .malformedNumber
    }
  }

  private func endOfNumber() -> Refusal? {
    switch numberPhase {
    case .zero, .fraction, .exponent: return nil
    case .integer:
      let isTooNegative = isNegative && magnitude > UInt64(Int64.max) + 1
      return magnitudeOverflows || isTooNegative ? .integerOutOfRange : nil
    case .minus, .point, .exponentMark, .exponentSign: return .malformedNumber
    }
  }
}

extension JSONScanner.Refusal {
  /// The refusal in words.
  func text(limits: QMPLimits) -> String {
    switch self {
    case .notAnObject: "a message begins with something other than '{'"
    case .tooLong: "a message is longer than \(limits.maximumLineBytes) bytes"
    case .tooDeep: "a message nests deeper than \(limits.depth) levels"
    case .tooManyValues: "a message has more than \(limits.maximumValues) values"
    case .unexpectedByte: "a byte stands where JSON has none like it"
    case .controlCharacter: "a control character stands in a string"
    case .invalidUTF8: "a string is not UTF-8"
    case .malformedNumber: "a number is malformed"
    case .integerOutOfRange: "an integer does not fit 64 bits"
    case .nameWithNull: "a member name holds a NUL character"
    }
  }
}
