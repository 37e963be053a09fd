/// Swift source, taken apart into code and string literals as far as the tidy rules need it.
struct SwiftText {
  /// The source with comments and the contents of string literals blanked; lines stay where they
  /// were.
  private(set) var code = ""
  /// What stands between quotes, with its line; interpolations are left out.
  private(set) var literals: [(line: Int, text: String)] = []

  private let source: [UInt8]
  private var output: [UInt8] = []
  private var position = 0
  private var line = 1

  init(_ text: String) {
    source = Array(text.utf8)
    output.reserveCapacity(source.count)
    readCode(untilClosingParenthesis: false)
    code = String(decoding: output, as: UTF8.self)
  }

  /// The lines of `code`, numbered from 1.
  var numberedLines: [(number: Int, text: Substring)] {
    code.split(separator: "\n", omittingEmptySubsequences: false).enumerated().map {
      ($0.offset + 1, $0.element)
    }
  }

  private mutating func readCode(untilClosingParenthesis: Bool) {
    var depth = 0
    while position < source.count {
      if isNext("//") {
        while position < source.count, source[position] != UInt8(ascii: "\n") { blank() }
      } else if isNext("/*") {
        readComment()
      } else if let (hashes, quotes) = literalStart() {
        readLiteral(hashes: hashes, quotes: quotes)
      } else {
        if source[position] == UInt8(ascii: "(") { depth += 1 }
        if source[position] == UInt8(ascii: ")") {
          depth -= 1
          if untilClosingParenthesis, depth < 0 { return }
        }
        keep()
      }
    }
  }

  private mutating func readComment() {
    var depth = 0
    repeat {
      if isNext("/*") {
        depth += 1
        blank(2)
      } else if isNext("*/") {
        depth -= 1
        blank(2)
      } else {
        blank()
      }
    } while depth > 0 && position < source.count
  }

  /// How many `#` and quotes open a string literal here, if one begins.
  private func literalStart() -> (hashes: Int, quotes: Int)? {
    var index = position
    while index < source.count, source[index] == UInt8(ascii: "#") { index += 1 }
    guard index < source.count, source[index] == UInt8(ascii: "\"") else { return nil }
    let isLong = isNext("\"\"\"", at: index)
    return (index - position, isLong ? 3 : 1)
  }

  private mutating func readLiteral(hashes: Int, quotes: Int) {
    let hashMarks = String(repeating: "#", count: hashes)
    let end = String(repeating: "\"", count: quotes) + hashMarks
    let escape = "\\" + hashMarks
    let firstLine = line
    var content: [UInt8] = []
    for _ in 0..<(hashes + quotes) { keep() }
    while position < source.count, !isNext(end) {
      if isNext(escape + "(") {
        blank(escape.utf8.count + 1)
        readCode(untilClosingParenthesis: true)
        if position < source.count { blank() }
      } else if isNext(escape) {
        for _ in 0...escape.utf8.count where position < source.count {
          content.append(source[position])
          blank()
        }
      } else {
        content.append(source[position])
        blank()
      }
    }
    for _ in 0..<end.utf8.count where position < source.count { keep() }
    literals.append((firstLine, String(decoding: content, as: UTF8.self)))
  }

  private func isNext(_ text: StaticString, at index: Int) -> Bool {
    isNext(text.description, at: index)
  }

  private func isNext(_ text: String, at index: Int? = nil) -> Bool {
    source[(index ?? position)...].starts(with: text.utf8)
  }

  private mutating func keep() {
    output.append(source[position])
    advance()
  }

  private mutating func blank(_ count: Int = 1) {
    for _ in 0..<count where position < source.count {
      output.append(
        source[position] == UInt8(ascii: "\n") ? source[position] : UInt8(ascii: " "))
      advance()
    }
  }

  private mutating func advance() {
    if source[position] == UInt8(ascii: "\n") { line += 1 }
    position += 1
  }
}
