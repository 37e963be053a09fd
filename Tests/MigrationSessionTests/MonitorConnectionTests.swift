import MigrationEngine
import MigrationSession
import Testing

struct MonitorConnectionTests {
  /// Others fill the listener's queue all the time: that is why it is given up, whatever the instant of the
  /// last attempt.
  @Test(arguments: [0, 7, 19])
  func aQueueThatStaysFullMeansThatOthersHaveTheMonitor(offsetMilliseconds: Int64) {
    var connection = MonitorConnection(
      endpoint: .unix(path: "/m"), policy: .reconnect(within: .seconds(30)))
    var now = MonotonicInstant(nanoseconds: 1_000_000_000)
    var effects: [MonitorConnection.Effect] = []
    var notices: [MonitorConnection.Notice] = []
    connection.open(
      within: .milliseconds(1_000 + offsetMilliseconds), at: now, effects: &effects)
    var attempts = 0
    while notices.isEmpty, attempts < 1_000 {
      if effects.last == .open(.unix(path: "/m")) {
        effects = []
        attempts += 1
        now = now + .microseconds(50)
        connection.openFailed(.queueFull, at: now, into: &notices)
      } else {
        now = connection.nextDeadline ?? now
        connection.timePassed(at: now, effects: &effects, into: &notices)
      }
    }
    guard case .unavailable(.busy)? = notices.first else {
      Issue.record("\(notices)")
      return
    }
    #expect(connection.isClosed)
    #expect(attempts > 10)
  }
}
