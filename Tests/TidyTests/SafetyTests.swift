import Testing

/// Nothing that QEMU, ssh, a disk or a caller sends may end the host program.
@Suite("Safety")
struct SafetyTests {
  /// Lines below the C interface that may trap: a piece of the line, and why it cannot happen.
  static let exceptions: [(piece: String, reason: String)] = []

  @Test("nothing in the library traps by its own choice")
  func nothingTraps() throws {
    let forbidden = [
      ("try!", try Regex(#"\btry!"#)),
      ("as!", try Regex(#"\bas!"#)),
      ("a trap", try Regex(#"\b(fatalError|preconditionFailure|precondition)\s*\("#)),
      ("an end of the process", try Regex(#"\b(abort|exit|_exit)\s*\([^:]*\)"#)),
      // An identifier, call, subscript or type with `!` behind it, and no comparison.
      ("a forced unwrap", try Regex(#"[\w)\]>]!(?!=)"#)),
      ("an unowned reference", try Regex(#"\bunowned\b"#)),
    ]
    for file in SourceTree.librarySources {
      for (number, line) in SwiftText(file.text).numberedLines {
        for (name, pattern) in forbidden where line.firstMatch(of: pattern) != nil {
          let isAllowed = Self.exceptions.contains { line.contains($0.piece) }
          #expect(isAllowed, "\(file.path):\(number) has \(name): \(line)")
        }
      }
    }
  }

  @Test("the migration logic is in the session alone: those who carry it out name no command")
  func interpretersNameNoCommand() {
    let commands: Set<String> = [
      "announce-self", "block-job-cancel", "block-job-complete", "blockdev-add", "blockdev-del",
      "blockdev-mirror", "cont", "job-cancel", "job-complete", "migrate", "migrate-continue",
      "migrate-incoming", "migrate-pause", "migrate-recover", "migrate-set-capabilities",
      "migrate-set-parameters", "migrate_cancel", "nbd-server-add", "nbd-server-start",
      "nbd-server-stop", "query-block-jobs", "query-jobs", "query-migrate",
      "query-migrate-capabilities", "query-migrate-parameters", "query-status", "quit", "stop",
      "system_powerdown", "system_reset", "system_wakeup", "yank",
    ]
    for file in SourceTree.files where file.isSwift && isInterpreter(file) {
      for (line, text) in SwiftText(file.text).literals {
        #expect(!commands.contains(text), "\(file.path):\(line) names \(text)")
      }
    }
  }

  /// The runtime; and of the simulation all but the simulated QEMU itself.
  private func isInterpreter(_ file: SourceTree.File) -> Bool {
    if file.lies(in: "Sources/Runtime") { return true }
    return file.lies(in: "Sources/Simulation") && !file.name.contains("QEMU")
  }
}
