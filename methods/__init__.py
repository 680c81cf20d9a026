"""The methods: what the scripts of one share (options, evaluation, checkpoints, pictures), a room for each paper.

    ites                teacher and student (AAAI 2021)
    poseaug             baselines, PoseAug (CVPR 2021), its grids and tables
    adversarial         Kudo's and Chen's adversarial lifters (2018, CVPR 2019)
    hourglass           images -> 2D and 3D poses (ICCV 2017)
    encoder_decoder     several views -> a representation that turns, and a pose read off it (ECCV 2018)
    lifters             which lifter a checkpoint holds, its 2D input, its poses: any of the above
    video_lifting       the keypoints of a video in, its poses out, for demo.py; several_people the same for all in it
    detectors           2D poses for demo.py: BlazePose, rtmlib, the hourglass; released the lifter it takes by itself

A method imports models/ and common/, never another method and never a script; the files beside the rooms may import
all of them.
"""
