"""Human3.6M's people: seven subjects, of whom by the common protocol five are to train on and two to test on."""

TRAIN_SUBJECTS, TEST_SUBJECTS = ("S1", "S5", "S6", "S7", "S8"), ("S9", "S11")
SUBJECTS = TRAIN_SUBJECTS + TEST_SUBJECTS
TRAIN_LIST, TEST_LIST = ",".join(TRAIN_SUBJECTS), ",".join(TEST_SUBJECTS)  # as options name them: "S1,S5,..."
