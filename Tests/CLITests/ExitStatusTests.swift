import CSwitchover
import Testing

@testable import CLI

@Suite("Exit status")
struct ExitStatusTests {
  @Test("every end with every owner (I2)")
  func table() {
    let ends: [swo_end] = [
      .SWO_END_NONE, .SWO_END_COMPLETED, .SWO_END_CANCELLED, .SWO_END_FAILED, .SWO_END_UNKNOWN,
    ]
    let owners: [(swo_owner, Int32)] = [
      (.SWO_OWNER_SOURCE, 10), (.SWO_OWNER_TARGET, 11), (.SWO_OWNER_NOBODY, 12),
      (.SWO_OWNER_UNKNOWN, 13),
    ]
    for end in ends {
      for (owner, status) in owners {
        let expected = end == .SWO_END_COMPLETED ? 0 : status
        #expect(
          ExitStatus(end: end.number, owner: owner.number).rawValue == expected, "\(end) \(owner)")
      }
    }
  }

  @Test("an owner of a later version is unknown here, and an end of one is no success")
  func valuesOfALaterVersion() {
    #expect(ExitStatus(end: swo_end.SWO_END_FAILED.number, owner: 99) == .ownerUnknown)
    #expect(ExitStatus(end: 99, owner: swo_owner.SWO_OWNER_TARGET.number) == .targetOwns)
  }

  @Test func theHelpHasEveryStatusOnALineOfItsOwn() {
    let lines = ExitStatus.table.split(separator: "\n")
    #expect(lines.count == ExitStatus.allCases.count)
    for (line, status) in zip(lines, ExitStatus.allCases) {
      #expect(line.contains(" \(status.rawValue)  \(status.meaning)"))
      #expect(line.count < 80)
    }
    for page in [MigrateCommand.configuration, DemoCommand.configuration] {
      #expect(page.discussion.contains(ExitStatus.table))
    }
    #expect(SwitchoverCommand.configuration.discussion.contains(ExitStatus.table))
  }

  @Test("a hand-over command's exit 0 is done, 1 is failed, all else is unknown")
  func handOverResults() {
    #expect(HandOverCommand.result(of: .exited(status: 0)).result == .done)
    #expect(HandOverCommand.result(of: .exited(status: 1)).result == .failed)
    for status: Int32 in [2, 126, 127, 255] {
      #expect(HandOverCommand.result(of: .exited(status: status)).result == .unknown)
    }
    #expect(HandOverCommand.result(of: .signalled(9)).result == .unknown)
  }
}
