/// Cuts a stream of bytes into JSON values: the scanner decides, json-c parses.
struct JSONReader {
  enum Reading: ~Copyable {
    /// All bytes are used up; the value in progress, if any, needs more.
    case incomplete
    case parsed(ParsedJSON)
    case refused(String)
  }

  private let limits: QMPLimits
  private var scanner: JSONScanner
  private var tokener: JSONTokener
  private var revision: UInt64 = 0
  private var isInsideValue = false

  init(limits: QMPLimits, takesAnyValue: Bool = false) {
    self.limits = limits
    scanner = JSONScanner(limits: limits, takesAnyValue: takesAnyValue)
    tokener = JSONTokener(limits: limits)
  }

  /// How much of the limits the value in progress has used.
  var usage: (bytes: Int, depth: Int, values: Int) { scanner.usage }

  /// Reads on at `position`, which moves behind what was used, or to the byte that was refused.
  mutating func next(in bytes: UnsafeRawBufferPointer, at position: inout Int) -> Reading {
    if scanner.isOutside {
      position = bytes[position...].firstIndex { !JSONScanner.isWhiteSpace($0) } ?? bytes.count
    }
    guard position < bytes.count else { return .incomplete }
    let start = position
    switch scanner.scan(bytes, from: start) {
    case .incomplete:
      position = bytes.count
      return parse(bytes, from: start, at: &position)
    case .complete(let end):
      scanner.restart()
      position = end
      switch parse(bytes, from: start, at: &position) {
      case .incomplete: return .refused("unexpected end of value")
      case .parsed(let parsed): return .parsed(parsed)
      case .refused(let text): return .refused(text)
      }
    case .refused(let refusal, let index):
      // What json-c refuses before this byte comes first, as it would byte by byte.
      position = index
      if case .refused(let text) = parse(bytes, from: start, at: &position) {
        return .refused(text)
      }
      return .refused(refusal.text(limits: limits))
    }
  }

  /// Ends the text: a number or literal that nothing else delimits is complete now.
  mutating func finish() -> Reading {
    if let refusal = scanner.refusalAtEnd() { return .refused(refusal.text(limits: limits)) }
    let delimiter: StaticString = "\n"
    var position = delimiter.utf8CodeUnitCount
    return parse(
      UnsafeRawBufferPointer(start: delimiter.utf8Start, count: position), from: 0, at: &position)
  }

  private mutating func parse(
    _ bytes: UnsafeRawBufferPointer, from start: Int, at position: inout Int
  ) -> Reading {
    guard ownsTokener() else { return .refused("two copies of one session were in use") }
    let outcome = tokener.take(UnsafeRawBufferPointer(rebasing: bytes[start..<position]))
    revision = tokener.revision
    isInsideValue = true
    switch consume outcome {
    case .incomplete:
      return .incomplete
    case .parsed(let parsed):
      isInsideValue = false
      return .parsed(parsed)
    case .refused(let text, let index):
      position = start + index
      return .refused(text)
    }
  }

  /// A copy of this value shares the tokener. Between values the copy takes one of its own; within
  /// a value only the copy that went on with it may continue.
  private mutating func ownsTokener() -> Bool {
    if tokener.revision == revision { return true }
    guard !isInsideValue else { return false }
    tokener = JSONTokener(limits: limits)
    return true
  }
}
