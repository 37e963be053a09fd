import Testing

/// Everything that is written here is for readers who know the project alone.
@Suite("Wording")
struct WordingTests {
  @Test("no text tells of where or how it was written")
  func textsSpeakOfTheProjectAlone() throws {
    // A character in brackets keeps each pattern from finding itself.
    let forbidden = [
      ("an unfinished thought", try Regex(#"\b([T]ODO|[F]IXME|[X]XX|[H]ACK)\b"#)),
      ("a number of some tracker", try Regex(#"\b([i]ssue|[t]icket|[P]R) #?\d"#)),
      ("a number of some tracker", try Regex(#"(?:^|[\s(])#\d{1,4}\b"#)),
      ("a place on one machine", try Regex(#"(?:^|[^\w$}])/([w]ork|[o]pt/swift|[h]ome/\w+)\b"#)),
      ("the host of a registry", try Regex(#"([d]eb\.debian\.org|[p]ypi\.|[c]rates\.io|[n]pmjs)"#)),
      ("who wrote it", try Regex(#"\b([C]laude|[A]nthropic|[C]hatGPT|[C]opilot)\b"#)),
    ]
    for file in SourceTree.files {
      let lines = file.text.split(separator: "\n", omittingEmptySubsequences: false)
      for (index, line) in lines.enumerated() {
        for (name, pattern) in forbidden where line.firstMatch(of: pattern) != nil {
          Issue.record("\(file.path):\(index + 1) has \(name): \(line)")
        }
      }
    }
  }

  @Test func filesEndWithOneNewlineAndHaveNoTrailingSpace() {
    for file in SourceTree.files where !file.text.isEmpty && !isRecording(file) {
      #expect(file.text.hasSuffix("\n") && !file.text.hasSuffix("\n\n"), "\(file.path)")
      for (index, line) in file.text.split(separator: "\n").enumerated()
      where line.hasSuffix(" ") || line.hasSuffix("\t") {
        Issue.record("\(file.path): trailing space in its line \(index + 1) that is not empty")
      }
    }
  }

  /// Recorded traffic, fuzzing corpora and patches are kept byte for byte.
  private func isRecording(_ file: SourceTree.File) -> Bool {
    ["json", "jsonl", "qmp", "txt", "bin", "patch"].contains { file.name.hasSuffix("." + $0) }
  }
}
