import CSwitchover
import Foundation
import Testing

@testable import CLI

@Suite("What a person is told")
struct PersonNarratorTests {
  private func narrator(
    terminal: Bool = false, _ loudness: PersonNarrator.Loudness = .normal
  ) -> PersonNarrator {
    var style = Style()
    style.isTerminal = terminal
    return PersonNarrator(style: style, resultStyle: Style(), loudness: loudness)
  }

  @Test func plainLinesHaveTheirTime() {
    var narrator = narrator()
    let snapshot = MigrationSnapshot.transferring
    #expect(
      narrator.tell(.entered, snapshot, elapsedMilliseconds: 1204)
        == [.remark("   1.204 s  transferring")])
    #expect(
      narrator.tell(.progressed, snapshot, elapsedMilliseconds: 1300)
        == [
          .remark(
            "   1.300 s  75 %, 64.0 MiB left, 118 MiB/s, blackout ≈ 14 ms, pass 2")
        ])
  }

  @Test("plain progress is told once a second, however often it changes")
  func plainProgressIsRare() {
    var narrator = narrator()
    let count = (0..<50).count { step in
      !narrator.tell(
        .progressed, .transferring, elapsedMilliseconds: UInt64(step) * 100
      ).isEmpty
    }
    #expect(count == 5)
  }

  @Test func disksHavePlainProgressToo() {
    var narrator = narrator()
    #expect(
      narrator.tell(.progressed, .mirroring, elapsedMilliseconds: 1300)
        == [.remark("   1.300 s  50 %, 96.0 MiB left, 1 of 2 disks copied")])
  }

  @Test("where the owner is in doubt the journal's recovery is the next step")
  func journal() {
    var (narrator, snapshot) = (narrator(), MigrationSnapshot.refused)
    snapshot.journal = "/j/vm 100"
    #expect(
      narrator.tell(.ended, snapshot, elapsedMilliseconds: 0).last
        == .remark("next: switchover recover '/j/vm 100'"))
    snapshot.owner = Word(code: swo_owner.SWO_OWNER_SOURCE.number, name: "source")
    #expect(
      narrator.tell(.ended, snapshot, elapsedMilliseconds: 0).last
        == .remark("journal: /j/vm 100"))
    snapshot.end = Word(code: swo_end.SWO_END_CANCELLED.number, name: "cancelled")
    #expect(narrator.tell(.ended, snapshot, elapsedMilliseconds: 0).count == 1)
  }

  @Test("on a terminal one line is drawn again, and gone before the result")
  func terminal() {
    var narrator = narrator(terminal: true)
    guard
      case .status(let line)? = narrator.tell(
        .progressed, .transferring, elapsedMilliseconds: 0
      ).first
    else {
      Issue.record("no status line")
      return
    }
    #expect(line.hasPrefix("transferring"))
    let end = narrator.tell(.ended, .completed, elapsedMilliseconds: 0)
    #expect(end.first == .status(""))
    #expect(
      end.dropFirst().first
        == .result("✓ vm 100: completed; blackout 3.2 ms; owner: target, guest running"))
    #expect(end.count == 9)
  }

  @Test("a failure goes to standard error, whole")
  func failure() {
    var narrator = narrator()
    #expect(
      narrator.tell(.ended, .refused, elapsedMilliseconds: 0) == [
        .remark(
          "✗ switchover: vm 100: target refused 'cont': Failed to get \"write\" lock; owner: "
            + "nobody, guest paused; next: find out who holds the image, then 'cont' on the target")
      ])
  }

  @Test("quiet means quiet, except for what went wrong")
  func quiet() {
    var narrator = narrator(.quiet)
    for news: MigrationNews in [
      .entered, .progressed, .warned("w"), .logged("l"), .handOverStarted(command: "c"),
      .handOverEnded(.done, how: "h"), .cancelSent(signal: "s"),
    ] {
      #expect(narrator.tell(news, .transferring, elapsedMilliseconds: 0).isEmpty)
    }
    #expect(narrator.tell(.ended, .completed, elapsedMilliseconds: 0).isEmpty)
    #expect(!narrator.tell(.ended, .refused, elapsedMilliseconds: 0).isEmpty)
    #expect(
      !narrator.tell(
        .handOverEnded(.unknown, how: "h"), .transferring, elapsedMilliseconds: 0
      ).isEmpty)
  }

  @Test func logLinesAreForTheVerbose() {
    var (normal, verbose) = (narrator(), narrator(.verbose))
    #expect(normal.tell(.logged("l"), .transferring, elapsedMilliseconds: 0).isEmpty)
    #expect(
      verbose.tell(.logged("l"), .transferring, elapsedMilliseconds: 0)
        == [.remark("   0.000 s  l")])
  }

  @Test func aCheckPrintsFindings() {
    var narrator = FindingsNarrator(style: Style(), resultStyle: Style())
    #expect(
      narrator.tell(.warned("target is older"), .transferring, elapsedMilliseconds: 0)
        == [.result("! target is older")])
    #expect(
      narrator.tell(.ended, .completed, elapsedMilliseconds: 0)
        == [.result("✓ nothing stands against this migration")])
    #expect(narrator.tell(.ended, .refused, elapsedMilliseconds: 0).count == 1)
  }
}

@Suite("What a program is told")
struct JSONNarratorTests {
  private func object(_ utterances: [Utterance]) throws -> [String: Any] {
    try #require(utterances.count == 1)
    let text: String =
      switch utterances[0] {
      case .result(let text), .progress(let text), .remark(let text), .status(let text): text
      }
    #expect(!text.contains("\n"))
    let object = try JSONSerialization.jsonObject(with: Data(text.utf8))
    return try #require(object as? [String: Any])
  }

  @Test func everyNewsIsOneObjectOnOneLine() throws {
    var narrator = JSONNarrator()
    let news: [(MigrationNews, String)] = [
      (.entered, "phase"), (.progressed, "progress"), (.warned("a\"\\\n\u{1}é\u{7f}"), "warning"),
      (.logged("l"), "log"), (.handOverAwaited, "hand-over-wanted"),
      (.handOverStarted(command: "mv a b"), "hand-over-started"),
      (.handOverEnded(.failed, how: "h"), "hand-over-ended"),
      (.cancelSent(signal: "interrupted"), "cancel"),
      (.cancelTooLate(signal: "interrupted", hint: ""), "cancel"), (.ended, "finished"),
    ]
    for (news, name) in news {
      let object = try object(narrator.tell(news, .transferring, elapsedMilliseconds: 7))
      #expect(object["event"] as? String == name)
      #expect(object["elapsed_ms"] as? Int == 7)
    }
    let warning = try object(
      narrator.tell(.warned("a\"\\\n\u{1}é\u{7f}"), .transferring, elapsedMilliseconds: 7))
    #expect(warning["text"] as? String == "a\"\\\n\u{1}é\u{7f}")
  }

  @Test("the last object has all that is known")
  func finished() throws {
    var narrator = JSONNarrator()
    let object = try object(narrator.tell(.ended, .completed, elapsedMilliseconds: 0))
    #expect(object["end"] as? String == "completed")
    #expect(object["owner"] as? String == "target")
    #expect(object["guest"] as? String == "running")
    #expect(object["exit_status"] as? Int == 0)
    #expect(object["failure"] is NSNull)
    #expect(object["blackout_us"] as? Int == 3214)
    #expect(object["blackout_error_us"] as? Int == 120)
    #expect(object["qemu_downtime_ms"] as? Int == 2)
    let ledger = try #require(object["ledger"] as? [[String: Any]])
    #expect(ledger.map { $0["name"] as? String }.last == "activation")
    #expect(ledger.map { $0["start_us"] as? Int } == [0, 2101, 2244])
    #expect(ledger.map { $0["length_us"] as? Int } == [2101, 143, 970])
  }

  @Test("a failure has its fields, and an unknown figure is absent")
  func failure() throws {
    var narrator = JSONNarrator()
    let object = try object(narrator.tell(.ended, .refused, elapsedMilliseconds: 0))
    let failure = try #require(object["failure"] as? [String: Any])
    #expect(failure["name"] as? String == "not-resumed")
    #expect(failure["side"] as? String == "target")
    #expect(failure["command"] as? String == "cont")
    #expect(failure["class"] as? String == "GenericError")
    #expect(object["exit_status"] as? Int == 12)
    #expect(object["blackout_us"] == nil)
  }

  @Test func disksAreListedWhereThereAreAny() throws {
    var narrator = JSONNarrator()
    let object = try object(narrator.tell(.progressed, .mirroring, elapsedMilliseconds: 0))
    let disks = try #require(object["disks"] as? [[String: Any]])
    #expect(disks.map { $0["device"] as? String } == ["d0", "d1"])
    #expect(disks.map { $0["copied_bytes"] as? Int } == [64 << 20, 32 << 20])
    #expect(disks.map { $0["total_bytes"] as? Int } == [64 << 20, 128 << 20])
    #expect(
      try self.object(narrator.tell(.progressed, .transferring, elapsedMilliseconds: 0))["disks"]
        == nil)
  }

  @Test("64-bit figures are exact")
  func exactFigures() {
    var snapshot = MigrationSnapshot.transferring
    snapshot.figures[.ramTotalBytes] = .max
    var narrator = JSONNarrator()
    guard
      case .progress(let text)? = narrator.tell(
        .progressed, snapshot, elapsedMilliseconds: .max
      ).first
    else {
      Issue.record("no progress line")
      return
    }
    #expect(text.contains("\"ram_total_bytes\":18446744073709551615"))
  }

  @Test func figuresHaveNamesOfTheirOwn() {
    #expect(Set(Figure.allCases.map(\.jsonName)).count == Figure.allCases.count)
  }
}
