/// What ssh writes to its standard error, made fit for one line of a person's log.
enum SSHWords {
  private static let lengthLimit = 400

  /// The lines, without what no log should show.
  static func lines(of text: String) -> [String] {
    text.split(whereSeparator: \.isNewline).compactMap { line in
      let plain = String(
        String.UnicodeScalarView(line.unicodeScalars.filter { $0.value >= 32 && $0.value != 127 }))
      // The frame around its loudest warning.
      return plain.allSatisfy({ $0 == "@" || $0 == " " }) ? nil : String(plain.prefix(lengthLimit))
    }
  }

  /// Why it ended: its last words, and the line of a known_hosts file that offended it.
  static func essence(of text: String) -> String {
    let all = lines(of: text)
    let offence = all.dropLast(2).filter { $0.hasPrefix("Offending") }
    let words = (offence + all.suffix(2)).joined(separator: "; ")
    return words.isEmpty ? "it said nothing" : words
  }
}
