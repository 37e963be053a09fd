import Testing

/// What makes files easy to find one's way in.
@Suite("Shape")
struct ShapeTests {
  static let longestFunction = 70
  /// Longer functions: what begins them, and why they are better whole.
  static let exceptions: [(begin: String, reason: String)] = [
    ("func emitWriteBlock", "one routine of machine code, read from top to bottom")
  ]

  @Test func swiftFunctionsAreShort() {
    for file in SourceTree.files where file.isSwift {
      let code = Array(SwiftText(file.text).code.utf8)
      for function in functions(in: code) where !isException(function.begin) {
        #expect(
          function.lines <= Self.longestFunction,
          "\(file.path):\(function.line): \(function.lines) lines")
      }
    }
  }

  @Test func functionsInCAreShort() {
    for file in SourceTree.files where file.name.hasSuffix(".c") {
      var begin: Int?
      for (index, line) in file.text.split(separator: "\n", omittingEmptySubsequences: false)
        .enumerated()
      {
        if line.hasPrefix("{") || (line.hasSuffix("{") && line.first?.isLetter == true) {
          begin = index
        } else if line.hasPrefix("}"), let first = begin {
          let lines = index - first + 1
          #expect(lines <= Self.longestFunction, "\(file.path):\(first + 1): \(lines) lines")
          begin = nil
        }
      }
    }
  }

  @Test("a file with one type is named after it")
  func filesAreNamedAfterTheirType() {
    for file in SourceTree.files
    where file.isSwift && file.lies(in: "Sources") && !file.name.contains("+") {
      let types = topLevelTypes(of: file)
      guard types.count == 1, let type = types.first else { continue }
      let name = file.name.dropLast(".swift".count)
      #expect(name == type, "\(file.path) declares \(type)")
    }
  }

  /// The types that a file declares at its top level and shows to others.
  private func topLevelTypes(of file: SourceTree.File) -> [String] {
    let pattern =
      #/^(?:@\w+ )*(?:public |package |internal |final |indirect )*(?:struct|class|enum|protocol) (\w+)/#
    return SwiftText(file.text).numberedLines.compactMap { line in
      (try? pattern.prefixMatch(in: line.text)).flatMap { $0 }.map { String($0.1) }
    }
  }

  private func isException(_ begin: Substring) -> Bool {
    Self.exceptions.contains { begin == $0.begin }
  }

  private func functions(in code: [UInt8]) -> [(begin: Substring, line: Int, lines: Int)] {
    let text = String(decoding: code, as: UTF8.self)
    let pattern =
      #/\b(?:func\s+[^\s(<]+|init\b[?!]?(?=\s*[(<])|deinit\b|subscript\b(?=\s*[(<])|var\s+\w+\s*:[^={}\n]*(?=\{))/#
    return text.matches(of: pattern).compactMap { match in
      let begin = text.utf8.distance(from: text.startIndex, to: match.range.lowerBound)
      let after = text.utf8.distance(from: text.startIndex, to: match.range.upperBound)
      guard let body = bodyStart(in: code, after: after), let end = bodyEnd(in: code, from: body)
      else { return nil }
      let newline = UInt8(ascii: "\n")
      let firstLine = code[..<begin].count { $0 == newline } + 1
      return (match.output, firstLine, code[begin...end].count { $0 == newline } + 1)
    }
  }

  /// Where the body of a declaration begins; nil for one without a body, as in a protocol.
  private func bodyStart(in code: [UInt8], after start: Int) -> Int? {
    var depth = 0
    var index = start
    while index < code.count {
      switch code[index] {
      case UInt8(ascii: "("), UInt8(ascii: "["): depth += 1
      case UInt8(ascii: ")"), UInt8(ascii: "]"): depth -= 1
      case UInt8(ascii: "{") where depth == 0: return index
      case UInt8(ascii: "}"): return nil
      case UInt8(ascii: "\n") where depth == 0:
        let rest = code[index...].drop { $0 == UInt8(ascii: "\n") || $0 == UInt8(ascii: " ") }
        let continues = ["{", "->", "where ", "throws", "async"].contains {
          rest.starts(with: $0.utf8)
        }
        if !continues { return nil }
      default: break
      }
      if depth < 0 { return nil }
      index += 1
    }
    return nil
  }

  private func bodyEnd(in code: [UInt8], from start: Int) -> Int? {
    var depth = 0
    for index in start..<code.count {
      if code[index] == UInt8(ascii: "{") { depth += 1 }
      if code[index] == UInt8(ascii: "}") {
        depth -= 1
        if depth == 0 { return index }
      }
    }
    return nil
  }
}
