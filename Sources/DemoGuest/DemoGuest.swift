// DemoGuest
